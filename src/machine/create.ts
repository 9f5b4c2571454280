/** Boots: a new machine with its guest loaded. */

import { createHost } from '../host/host.js';
import { hostMemory } from '../host/host-facts.js';
import { openHostKvm } from '../host/kvm/open.js';
import { createVm, setBootState } from '../kvm/vm.js';
import { ramRanges } from '../memory/layout.js';
import { loadAddon } from '../native/binding.js';
import { Cleanup } from '../util/cleanup.js';
import { assemble, chooseProfile } from './assemble.js';
import { loadGuest, readBootFiles } from './boot.js';
import { lookAtDevices } from './check.js';
import { checkConfig, DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import { KvmMachine } from './kvm-machine.js';
import type { Machine } from './machine.js';
import { reproduction } from './reproduction.js';
import { Timeline } from './timeline.js';

/**
 * Makes a machine and loads its guest; no instruction has run yet.
 *
 * @throws TsvmError for a configuration, file or host that will not do. Nothing is left behind then.
 */
export async function createMachine(config: MachineConfig): Promise<Machine> {
  return await create(config, true);
}

/** The same for a command line that says all that is to be said of a console, if only by leaving it out. */
export async function createMachineAsTold(config: MachineConfig): Promise<Machine> {
  return await create(config, false);
}

async function create(config: MachineConfig, namesConsole: boolean): Promise<Machine> {
  const timeline = new Timeline();
  timeline.mark('create');
  checkConfig(config, { totalMemoryBytes: hostMemory().totalBytes });
  const profile = chooseProfile(config.profile ?? 'auto');
  const files = await readBootFiles(config);
  timeline.mark('files-read');
  const cleanup = new Cleanup();
  try {
    await lookAtDevices(config.devices);
    const addon = loadAddon();
    const kvm = openHostKvm(addon);
    cleanup.defer(() => kvm.close());
    const machine = new KvmMachine({ profile, timeline, cleanup, reproduction });
    const vm = createVm(addon, kvm, {
      ram: ramRanges(config.memoryBytes ?? DEFAULT_MEMORY_BYTES),
      cpus: config.cpus ?? 1,
      ...(files.firmware === undefined ? {} : { rom: files.firmware.rom }),
    });
    cleanup.defer(() => vm.close());
    setBootState(vm);
    timeline.mark('vm-created');
    const host = createHost(addon, machine.terminal);
    const parts = await assemble(machine, { config, addon, kvm, vm, host });
    const { memory, platform } = parts;
    const { slots } = platform;
    const cmdline = await loadGuest({ config, files, memory, vm, profile, slots, namesConsole });
    timeline.mark('guest-loaded');
    machine.attach({ ...parts, cmdline });
    return machine;
  } catch (error) {
    await cleanup.run();
    throw error;
  } finally {
    await files.kernel?.close();
  }
}
