/** Numbers of what a machine has done so far. */
import { exitReasonName } from '../../kvm/constants.js';
import { decodeStats } from '../../kvm/stats.js';
import type { NativeVcpu } from '../../native/binding.js';
import type { DurationSummary } from '../../util/histogram.js';
import type { DeviceCounters } from '../../virtio/device.js';
import type { QueueCounters } from '../../virtio/queue.js';
import type { VirtioCore } from '../../virtio/transport/core.js';

/** Layout of NativeVcpu.counters. */
const RUN_RETURNS = 0;
const TO_JAVASCRIPT = 1;
const SERVED_LOAD = 2;
const SERVED_CLEAR_BITS = 3;
const SERVED_STREAM = 4;
const THREAD_ID = 6;
const BY_REASON = 8;

export interface ExitMetrics {
  /** Returns of KVM_RUN. */
  readonly total: number;
  /** Of these, how many stopped the vCPU until JavaScript answered. */
  readonly toJavaScript: number;
  /** Of these, how many were the host profile's doing, not the guest's devices. */
  readonly byHostProfile: number;
  /** Served by the vCPU thread itself. */
  readonly servedNatively: { readonly load: number; readonly clearBits: number; readonly stream: number };
  readonly byReason: Readonly<Record<string, number>>;
}

/** Metrics of a machine: what it has done so far. Numbers only grow, but for some of KVM's. */
export interface MachineMetrics {
  readonly exits: ExitMetrics;
  /** KVM's own counters that are not zero; absent where the kernel has none. */
  readonly kvmStats?: Readonly<Record<string, number>>;
  readonly vcpus: readonly VcpuMetrics[];
  /** In the order of their places in the machine. */
  readonly devices: readonly DeviceMetrics[];
}

export interface VcpuMetrics {
  /** Of its thread in this process, for /proc/self/task; 0 before it ran. */
  readonly threadId: number;
  /** Returns of KVM_RUN. */
  readonly exits: number;
}

export interface DeviceMetrics {
  /** Name, and which of that name it is: `blk0`. */
  readonly id: string;
  readonly name: string;
  /** Times that the guest broke a rule, and the device waited to be reset. */
  readonly needsReset: number;
  /** Register accesses that a driver may not make. */
  readonly refusedWrites: number;
  readonly queues: readonly Readonly<QueueCounters>[];
  readonly counters: DeviceCounters;
  readonly durations: Readonly<Record<string, DurationSummary>>;
}

export function deviceMetrics(
  slots: readonly { readonly transport: { readonly core: VirtioCore } }[],
): DeviceMetrics[] {
  const ordinals = new Map<string, number>();
  return slots.map(({ transport }) => {
    const { device, counters } = transport.core;
    const { name } = device;
    const ordinal = ordinals.get(name) ?? 0;
    ordinals.set(name, ordinal + 1);
    return {
      id: `${name}${ordinal}`,
      name,
      needsReset: counters.needsReset,
      refusedWrites: counters.refusedWrites,
      queues: counters.queues.map((queue) => ({ ...queue })),
      counters: { ...device.counters },
      durations: Object.fromEntries(
        Object.entries(device.durations ?? {}).map(([what, histogram]) => [what, histogram.summary]),
      ),
    };
  });
}

export function vcpuMetrics(vcpus: readonly NativeVcpu[]): VcpuMetrics[] {
  return vcpus.map(({ counters }) => ({
    threadId: counters[THREAD_ID] ?? 0,
    exits: counters[RUN_RETURNS] ?? 0,
  }));
}

/** Adds up what the vCPU threads counted. */
export function exitMetrics(vcpus: readonly NativeVcpu[], byHostProfile: number): ExitMetrics {
  const sum = (index: number): number =>
    vcpus.reduce((total, vcpu) => total + (vcpu.counters[index] ?? 0), 0);
  const byReason: Record<string, number> = {};
  const reasons = (vcpus[0]?.counters.length ?? BY_REASON) - BY_REASON;
  for (let reason = 0; reason < reasons; reason++) {
    const count = sum(BY_REASON + reason);
    if (count > 0) byReason[exitReasonName(reason)] = count;
  }
  return {
    total: sum(RUN_RETURNS),
    toJavaScript: sum(TO_JAVASCRIPT),
    byHostProfile,
    servedNatively: { load: sum(SERVED_LOAD), clearBits: sum(SERVED_CLEAR_BITS), stream: sum(SERVED_STREAM) },
    byReason,
  };
}

/** KVM's own counters, added up over the vCPUs; undefined where the kernel has no KVM_GET_STATS_FD. */
export function kvmStats(vcpus: readonly NativeVcpu[]): ReadonlyMap<string, number> | undefined {
  const total = new Map<string, number>();
  try {
    for (const vcpu of vcpus) {
      for (const [name, value] of decodeStats(vcpu.readStats()))
        total.set(name, (total.get(name) ?? 0) + value);
    }
  } catch {
    return undefined; // Linux before 5.14
  }
  return total;
}

/** KVM's count of emulated instructions over the vCPUs, where it has one. */
export function insnEmulation(vcpus: readonly NativeVcpu[]): number | undefined {
  return kvmStats(vcpus)?.get('insn_emulation');
}
