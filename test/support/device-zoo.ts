/** One of every registered device, on hosts that are not there, for tests that run against all of them. */

import type { ConsoleInput, Host } from '../../src/devices/host.js';
import { deviceKinds } from '../../src/devices/registry.js';
import type { VirtioDevice } from '../../src/virtio/device.js';
import { MemoryDisk } from './memory-disk.js';

/** A device, and how the host's side of it is made to do something. */
export interface Specimen {
  readonly device: VirtioDevice;
  /** Something happens on the host: a key is pressed, a packet comes in. */
  stir(): void;
}

/** What the command line says for one of each. A kind that is missing here fails the tests. */
const ARGUMENTS: Readonly<Record<string, string>> = {
  blk: 'disk.img,id=zoo',
  rng: '',
  console: 'virtio',
};

export const KINDS = Object.keys(deviceKinds);

export async function makeSpecimen(kind: string): Promise<Specimen> {
  const row = deviceKinds[kind];
  const text = ARGUMENTS[kind];
  if (row === undefined || text === undefined) throw new Error(`no specimen of device kind '${kind}'`);
  let console: ConsoleInput | undefined;
  const host: Host = {
    fillRandom: (target) => target.fill(0x5a),
    openDisk: async () => new MemoryDisk(),
    openConsole: () => ({
      onOutput: () => {},
      onDrain: () => {},
      connect: (input) => {
        console = input;
      },
    }),
    openPort: () => ({ onOutput: () => true, onDrain: () => {}, onOpen: () => {}, connect: () => {} }),
  };
  const device = await row.fromCli(text).open(host);
  return { device, stir: () => void console?.input(Uint8Array.of(0x78)) };
}
