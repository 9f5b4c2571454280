/**
 * Forks: machines that share a machine's memory and disks copy on write.
 *
 * The parent stands still only while its state is read and its memory is frozen and mapped into the children's virtual
 * machines, which are made beforehand. The rest is done while it runs on.
 */
import { TsvmError } from '../errors.js';
import type { MachineHost } from '../host/host.js';
import { assemble } from './assemble.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import { MachineCore } from './core.js';
import { Lifecycle } from './lifecycle.js';
import type { ForkOptions } from './machine.js';
import { fillStore, type PreparedVm, prepareVm, takeVm } from './prepared-vm.js';
import { startedTimeline } from './report/timeline.js';

/** What is wrong with more is not the number but that nobody means it. */
export const MAX_FORKS = 10_000;

/** A fork that is being made. */
interface Child {
  readonly lifecycle: Lifecycle;
  readonly prepared: PreparedVm;
}

/** Makes VMs of the shape of `parent`'s, until it has `count` in store. */
export async function prepareForks(parent: MachineCore, count: number, signal?: AbortSignal): Promise<void> {
  checkCount(count);
  const make = (): PreparedVm => {
    parent.refuseUnless(['ready', 'running', 'paused'], 'prepare forks of');
    return prepareFork(parent);
  };
  await fillStore(parent.prepared, count, make, signal);
}

/** @throws whatever {@link createMachine} throws; then no fork is left. */
export async function forkMachine(
  parent: MachineCore,
  count: number,
  { facts = () => ({}), signal }: ForkOptions,
): Promise<MachineCore[]> {
  signal?.throwIfAborted();
  checkCount(count);
  parent.refuseUnless(['running', 'paused'], 'fork');
  const { kvm, vm, host } = parent.parts;
  const children: Child[] = [];
  const hosts: MachineHost[] = [];
  try {
    for (let i = 0; i < count; i++) children.push(beginFork(parent));
    const share = () => {
      const saved = parent.save(kvm.msrIndexList());
      const base = vm.ram.freeze();
      for (const { prepared } of children) prepared.vm.ram.adopt(base);
      for (const { lifecycle } of children) hosts.push(host.fork(lifecycle.terminal));
      return { state: saved, config: parent.config };
    };
    const { state, config } = await parent.still('fork', share, signal);
    const forks: MachineCore[] = [];
    for (const [i, child] of children.entries()) {
      const fork = await assembleFork(parent, config, child, hosts[i] as MachineHost);
      signal?.throwIfAborted();
      fork.restore(state, facts(i));
      forks.push(fork);
    }
    MachineCore.startTogether(forks);
    return forks;
  } catch (error) {
    await Promise.all(children.map(({ lifecycle }) => lifecycle.kill()));
    await Promise.all(hosts.map((unused) => unused.close()));
    throw error;
  }
}

function checkCount(count: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= MAX_FORKS) return;
  throw new TsvmError('TSVM_CONFIG', `${count} forks: it must be a whole number from 1 to ${MAX_FORKS}`);
}

function prepareFork(parent: MachineCore): PreparedVm {
  const { addon, vm } = parent.parts;
  const { memoryBytes = DEFAULT_MEMORY_BYTES, cpus = 1 } = parent.config;
  return prepareVm({ addon, memoryBytes, cpus, cpuid: vm.cpuid });
}

function beginFork(parent: MachineCore): Child {
  const lifecycle = new Lifecycle(startedTimeline());
  return { lifecycle, prepared: takeVm(parent.prepared, () => prepareFork(parent), lifecycle) };
}

/** @param config - as it was when `host` was made: a disk may have been changed since */
async function assembleFork(
  parent: MachineCore,
  config: MachineConfig,
  { lifecycle, prepared }: Child,
  host: MachineHost,
): Promise<MachineCore> {
  const { addon, profile, cmdline } = parent.parts;
  const { kvm, vm } = prepared;
  const parts = await assemble(lifecycle, config, { addon, kvm, vm, profile, host });
  return new MachineCore(lifecycle, config, { ...parts, cmdline });
}
