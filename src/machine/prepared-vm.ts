/** Virtual machines for machines that are to come: making one takes longer than all that comes after. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openHostKvm } from '../host/kvm/open.js';
import { createVm, type Vm } from '../kvm/vm.js';
import { ramRanges } from '../memory/layout.js';
import type { NativeAddon, NativeKvm } from '../native/binding.js';
import type { Lifecycle } from './lifecycle.js';

export interface VmShape {
  readonly addon: NativeAddon;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** By vCPU: what CPUID answers there. */
  readonly cpuid: readonly Uint8Array[];
}

export interface PreparedVm {
  readonly kvm: NativeKvm;
  readonly vm: Vm;
  /** Set when a machine takes it: who is told that a file under its memory was truncated. */
  owner: { memoryLost(): void } | undefined;
}

export function prepareVm({ addon, memoryBytes, cpus, cpuid }: VmShape): PreparedVm {
  const kvm = openHostKvm(addon);
  try {
    const ram = ramRanges(memoryBytes);
    const onMemoryLost = (): void => prepared.owner?.memoryLost();
    const prepared: PreparedVm = {
      kvm,
      vm: createVm(addon, kvm, { ram, cpus, cpuid, onMemoryLost }),
      owner: undefined,
    };
    return prepared;
  } catch (error) {
    kvm.close();
    throw error;
  }
}

/** Takes a VM out of `store`, or makes one, for a machine that is being made; the machine releases it. */
export function takeVm(store: PreparedVm[], make: () => PreparedVm, machine: Lifecycle): PreparedVm {
  const prepared = store.pop() ?? make();
  machine.cleanup.defer(() => prepared.kvm.close());
  machine.cleanup.defer(() => prepared.vm.close());
  prepared.owner = machine;
  machine.timeline.mark('vm-created');
  return prepared;
}

/** Adds what `make` makes to `store` until it holds `count`, with a turn of the event loop after each. */
export async function fillStore(
  store: PreparedVm[],
  count: number,
  make: () => PreparedVm,
  signal?: AbortSignal,
): Promise<void> {
  while (store.length < count) {
    signal?.throwIfAborted();
    store.push(make());
    await nextTurn();
  }
}

export function emptyStore(store: PreparedVm[]): void {
  for (const { kvm, vm } of store.splice(0)) {
    vm.close();
    kvm.close();
  }
}
