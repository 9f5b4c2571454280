/** What a machine has done so far, in numbers. */
import { exitReasonName } from '../kvm/constants.js';
import { decodeStats } from '../kvm/stats.js';
import type { NativeVcpu } from '../native/binding.js';

/** Layout of NativeVcpu.counters. */
const RUN_RETURNS = 0;
const TO_JAVASCRIPT = 1;
const SERVED_LOAD = 2;
const SERVED_CLEAR_BITS = 3;
const SERVED_STREAM = 4;
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
