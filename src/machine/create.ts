/** Boots: a new machine with its guest loaded. */

import { hostMemory } from '../host/facts.js';
import { createHost } from '../host/host.js';
import { openHostKvm } from '../host/kvm/open.js';
import { createVm, setBootState } from '../kvm/vm.js';
import { ramRanges } from '../memory/layout.js';
import { loadAddon } from '../native/binding.js';
import type { Abortable } from '../util/abort.js';
import { assemble, chooseProfile } from './assemble.js';
import { hasAcpi, loadGuest, readBootFiles } from './boot.js';
import { lookAtDevices } from './check.js';
import { checkConfig, DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import { MachineCore } from './core.js';
import { KvmMachine } from './kvm-machine.js';
import { Lifecycle } from './lifecycle.js';
import type { Machine, MachineOf } from './machine.js';
import { startedTimeline } from './report/timeline.js';

/**
 * Makes a machine and loads its guest; no instruction has run yet.
 *
 * @throws TsvmError for a configuration, file or host that will not do. Nothing is left behind then.
 */
export async function createMachine<const Config extends MachineConfig>(
  given: Config,
  { signal }: Abortable = {},
): Promise<MachineOf<Config>> {
  signal?.throwIfAborted();
  const timeline = startedTimeline();
  const config = checkConfig(given, { totalMemoryBytes: hostMemory().totalBytes });
  const profile = chooseProfile(config.profile ?? 'auto');
  const files = await readBootFiles(config);
  timeline.mark('files-read');
  const lifecycle = new Lifecycle(timeline);
  const { cleanup } = lifecycle;
  try {
    await lookAtDevices(config.devices);
    signal?.throwIfAborted();
    const addon = loadAddon();
    const kvm = openHostKvm(addon);
    cleanup.defer(() => kvm.close());
    const vm = createVm(addon, kvm, {
      ram: ramRanges(config.memoryBytes ?? DEFAULT_MEMORY_BYTES),
      cpus: config.cpus ?? 1,
      ...(files.firmware === undefined ? {} : { rom: files.firmware.rom }),
    });
    cleanup.defer(() => vm.close());
    setBootState(vm);
    timeline.mark('vm-created');
    const host = createHost(addon, lifecycle.terminal);
    const parts = await assemble(lifecycle, config, { addon, kvm, vm, profile, host }, signal);
    const { memory, platform } = parts;
    const { slots } = platform;
    const cmdline = await loadGuest({ config, files, memory, vm, profile, slots });
    signal?.throwIfAborted();
    if (hasAcpi(config)) platform.generation.begin();
    timeline.mark('guest-loaded');
    const machine: Machine = new KvmMachine(new MachineCore(lifecycle, config, { ...parts, cmdline }));
    return machine as MachineOf<Config>;
  } catch (error) {
    await cleanup.run();
    throw error;
  } finally {
    await files.kernel?.close();
  }
}
