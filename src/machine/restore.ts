/** Restores: a machine that goes on where a saved one stood. */
import { resolve } from 'node:path';
import type { BusDevice } from '../bus/bus-device.js';
import { deviceKinds } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import { checkDiskFacts } from '../host/disk-facts.js';
import { createHost } from '../host/host.js';
import { type CpuFacts, hostMemory, readCpu } from '../host/host-facts.js';
import { openKvm } from '../kvm/kvm.js';
import { createVm } from '../kvm/vm.js';
import { savedCpuid } from '../kvm/vm-state.js';
import { ramRanges } from '../memory/layout.js';
import { loadAddon } from '../native/binding.js';
import type { SavedConfig, Snapshot } from '../snapshot/format.js';
import { type OpenedSnapshot, openSnapshot, refused } from '../snapshot/reader.js';
import { Cleanup } from '../util/cleanup.js';
import { assemble, chooseProfile } from './assemble.js';
import { checkConfig, type MachineConfig } from './config.js';
import { KvmMachine } from './kvm-machine.js';
import type { Machine } from './machine.js';
import type { Platform } from './platform.js';
import { reproduction } from './reproduction.js';
import { Timeline } from './timeline.js';

export interface RestoreOptions {
  /**
   * `overlay` (default): disks are only read, and what the guest writes is kept in memory and thrown away, so that the
   * snapshot can be restored again. `direct`: it writes to the disks themselves; the snapshot cannot be restored after that.
   */
  readonly disks?: 'overlay' | 'direct';
  /** Where the vsock's Unix sockets are, if not where they were: each machine of a snapshot needs a path of its own. */
  readonly vsock?: string;
}

/**
 * Makes the machine that was saved in `directory`; it goes on when it is started.
 *
 * Its memory is the snapshot's file, mapped: it comes as the guest touches it, and is shared with other machines of the
 * same snapshot until they write. The file may be deleted or replaced meanwhile, but not truncated.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` if it is damaged or does not fit this host; `TSVM_DISK` if a disk has changed since.
 */
export async function restoreMachine(directory: string, options: RestoreOptions = {}): Promise<Machine> {
  const timeline = new Timeline();
  timeline.mark('create');
  const opened = await openSnapshot(directory);
  timeline.mark('snapshot-read');
  const cleanup = new Cleanup();
  try {
    return await restoreOpened(opened, { timeline, cleanup, options });
  } catch (error) {
    opened.memory.close();
    await cleanup.run();
    throw error;
  }
}

async function restoreOpened(
  opened: OpenedSnapshot,
  { timeline, cleanup, options }: { timeline: Timeline; cleanup: Cleanup; options: RestoreOptions },
): Promise<Machine> {
  const { snapshot, directory, checksum } = opened;
  const { host: savedHost, cmdline, state } = snapshot;
  const profile = chooseProfile('auto');
  if (profile.name !== savedHost.profile) {
    throw refused(
      directory,
      `it was saved with host profile ${savedHost.profile}, and this host has ${profile.name}`,
    );
  }
  const problem = refuseCpu(savedHost.cpu, readCpu());
  if (problem !== undefined) throw refused(directory, problem);
  const config = machineConfig(snapshot);
  checkConfig({ ...config, kernel: 'saved' }, { totalMemoryBytes: hostMemory().totalBytes });
  const addon = loadAddon();
  const kvm = openKvm(addon);
  cleanup.defer(() => kvm.close());
  const machine = new KvmMachine({ profile, timeline, cleanup, reproduction });
  const vm = createVm(addon, kvm, {
    ram: ramRanges(snapshot.config.memoryBytes),
    cpus: snapshot.config.cpus,
    cpuid: savedCpuid(state.vm, snapshot.config.cpus),
    onMemoryLost: () => machine.memoryLost(),
  });
  cleanup.defer(() => vm.close());
  if (vm.ram.sizeBytes !== snapshot.memory.bytes)
    throw refused(directory, `it has ${snapshot.memory.bytes} bytes of memory, not ${vm.ram.sizeBytes}`);
  vm.ram.own(opened.memory);
  timeline.mark('vm-created');
  const host = createHost(addon, machine.terminal, {
    disks: options.disks ?? 'overlay',
    directory: snapshot.config.directory,
    ...(options.vsock === undefined ? {} : { vsockPath: resolve(options.vsock) }),
  });
  const parts = await assemble(machine, { config, addon, kvm, vm, host });
  watchMemory(parts.platform, snapshot.config.memoryBytes, () => machine.memoryLost());
  if (options.vsock !== undefined && host.vsock() === undefined)
    throw refused(directory, 'it has no vsock that could be elsewhere');
  checkDiskFacts(snapshot.disks, await host.disks());
  machine.attach({ ...parts, cmdline, origin: { directory, checksum } });
  machine.restore(state);
  return machine;
}

/** KVM asks the monitor for memory that was truncated, as for a device's: without this, the guest would run on without it. */
function watchMemory(platform: Platform, memoryBytes: number, onLost: () => void): void {
  const lost: BusDevice = { name: 'lost memory', read: onLost, write: onLost };
  for (const { addr, length } of ramRanges(memoryBytes)) platform.mmio.attach(addr, length, lost);
}

function machineConfig(snapshot: Snapshot): MachineConfig {
  const { memoryBytes, cpus, console, firmware, channel } = snapshot.config;
  return {
    memoryBytes,
    cpus,
    console,
    channel,
    ...(firmware ? { firmware: 'builtin' } : {}),
    devices: snapshot.config.devices.map(requestOf),
  };
}

function requestOf({ kind, config }: SavedConfig['devices'][number]) {
  const row = Object.hasOwn(deviceKinds, kind) ? deviceKinds[kind] : undefined;
  if (row === undefined) throw new TsvmError('TSVM_SNAPSHOT', `there is no device kind '${kind}' here`);
  return row.fromConfig(config);
}

/** Why a guest that ran on `saved` cannot go on on `here`: it has looked once at what the CPU can do. */
function refuseCpu(saved: CpuFacts, here: CpuFacts): string | undefined {
  const same = (['vendor', 'family', 'model'] as const).every((field) => saved[field] === here[field]);
  if (!same) return `it was saved on another CPU (${saved.name}), and this is ${here.name}`;
  const flags = new Set(here.flags.split(' '));
  const missing = saved.flags.split(' ').filter((flag) => !flags.has(flag));
  return missing.length === 0 ? undefined : `this CPU lacks ${missing.join(', ')}`;
}
