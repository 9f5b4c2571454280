/** The host as devices see it. */
import { randomFillSync } from 'node:crypto';
import type { ConsolePort, Host } from '../devices/host.js';
import type { NativeAddon } from '../native/binding.js';
import { openDiskFile } from './disk-file.js';

/** @param console the machine's terminal, for a device that asks for it. */
export function createHost(addon: NativeAddon, console: ConsolePort): Host {
  return {
    fillRandom: (target) => void randomFillSync(target),
    openDisk: (path, options) => openDiskFile(addon, path, options),
    openConsole: () => console,
  };
}
