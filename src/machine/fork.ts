/**
 * Forks: machines that share a machine's memory and disks copy on write.
 *
 * The parent stands still only while its state is read and its memory is frozen and mapped into the children's virtual
 * machines, which are made beforehand. The rest is done while it runs on.
 */
import { TsvmError } from '../errors.js';
import type { MachineHost } from '../host/host.js';
import { decodeVmState } from '../kvm/vm-state.js';
import { Cleanup } from '../util/cleanup.js';
import { assemble } from './assemble.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import { KvmMachine } from './kvm-machine.js';
import type { ForkOptions } from './machine.js';
import { fillStore, type PreparedVm, prepareVm } from './prepared-vm.js';
import { Timeline } from './timeline.js';

/** What is wrong with more is not the number but that nobody means it. */
export const MAX_FORKS = 10_000;

interface Child {
  readonly machine: KvmMachine;
  readonly prepared: PreparedVm;
}

/** Makes VMs of the shape of `parent`'s, until it has `count` in store. */
export async function prepareForks(parent: KvmMachine, count: number): Promise<void> {
  checkCount(count);
  await fillStore(parent.prepared, count, () => {
    parent.refuseUnless(['ready', 'running', 'paused'], 'prepare forks of');
    return prepareFork(parent);
  });
}

/** @throws whatever {@link createMachine} throws; then no fork is left. */
export async function forkMachine(
  parent: KvmMachine,
  count: number,
  { facts = () => ({}) }: ForkOptions,
): Promise<KvmMachine[]> {
  checkCount(count);
  parent.refuseUnless(['running', 'paused'], 'fork');
  const { kvm, vm, host } = parent.parts;
  const children: Child[] = [];
  const hosts: MachineHost[] = [];
  try {
    for (let i = 0; i < count; i++) children.push(conceive(parent));
    const { state, config } = await parent.still('fork', () => {
      const saved = parent.save(kvm.msrIndexList());
      const base = vm.ram.freeze();
      for (const { prepared } of children) prepared.vm.ram.adopt(base);
      for (const { machine } of children) hosts.push(host.fork(machine.terminal));
      return { state: saved, config: parent.config };
    });
    const vmState = decodeVmState(state.vm);
    for (const [i, child] of children.entries()) {
      await bear(parent, config, child, hosts[i] as MachineHost);
      child.machine.restore(state, vmState, facts(i));
    }
    KvmMachine.startTogether(children.map(({ machine }) => machine));
  } catch (error) {
    await Promise.all(children.map(({ machine }) => machine.stop()));
    await Promise.all(hosts.map((unborn) => unborn.close()));
    throw error;
  }
  return children.map(({ machine }) => machine);
}

function checkCount(count: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= MAX_FORKS) return;
  throw new TsvmError('TSVM_CONFIG', `${count} forks: it must be a whole number from 1 to ${MAX_FORKS}`);
}

function prepareFork(parent: KvmMachine): PreparedVm {
  const { addon, config, vm } = parent.parts;
  const { memoryBytes = DEFAULT_MEMORY_BYTES, cpus = 1 } = config;
  return prepareVm({ addon, memoryBytes, cpus, cpuid: vm.cpuid });
}

function conceive(parent: KvmMachine): Child {
  const timeline = new Timeline();
  timeline.mark('create');
  const prepared = parent.prepared.pop() ?? prepareFork(parent);
  const cleanup = new Cleanup();
  cleanup.defer(() => prepared.kvm.close());
  cleanup.defer(() => prepared.vm.close());
  const { hostProfile: profile, reproduction } = parent;
  const machine = new KvmMachine({ profile, timeline, cleanup, reproduction });
  prepared.owner = machine;
  timeline.mark('vm-created');
  return { machine, prepared };
}

/** @param config - as it was when `host` was made: a disk may have been changed since */
async function bear(
  parent: KvmMachine,
  config: MachineConfig,
  child: Child,
  host: MachineHost,
): Promise<void> {
  const { machine, prepared } = child;
  const { addon, cmdline } = parent.parts;
  const parts = await assemble(machine, { config, addon, ...prepared, host });
  machine.attach({ ...parts, cmdline });
}
