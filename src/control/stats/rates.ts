/** Rates of what machines do, in a second, from two looks at their counters. */

import type { DeviceMetrics } from '../../machine/report/metrics.js';
import type { MachineStats } from './stats.js';

export interface DeviceRates {
  readonly id: string;
  readonly kicks: number;
  readonly interrupts: number;
  readonly requests: number;
  readonly errors: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly frames: number;
  /** Mean latency of requests in between; absent where none were, or none are timed. */
  readonly meanLatencyMs?: number;
}

export interface Rates {
  /** Processor time of the machine's process, and of each vCPU: 1 is a whole processor. */
  readonly cpu: number;
  readonly vcpus: readonly number[];
  readonly exits: number;
  readonly toJavaScript: number;
  readonly exitsByReason: readonly (readonly [reason: string, perSecond: number])[];
  readonly devices: readonly DeviceRates[];
  readonly diskBytes: number;
  readonly netFrames: number;
}

/** @returns undefined if no time has passed, or the counters are another machine's. */
export function ratesBetween(before: MachineStats, now: MachineStats): Rates | undefined {
  const ms = now.atMs - before.atMs;
  if (ms <= 0 || now.uptimeMs < before.uptimeMs) return undefined;
  const perSecond = (from: number, to: number): number => Math.max(0, ((to - from) * 1000) / ms);
  const share = (fromMs: number, toMs: number): number => Math.max(0, (toMs - fromMs) / ms);
  const [exitsBefore, exits] = [before.metrics.exits, now.metrics.exits];
  const devices = now.metrics.devices.map((device, i) =>
    deviceRates(before.metrics.devices[i], device, perSecond),
  );
  const sum = (of: (device: DeviceRates) => number): number =>
    devices.reduce((total, device) => total + of(device), 0);
  return {
    cpu: share(before.process.cpuMs, now.process.cpuMs),
    vcpus: now.vcpus.map(({ cpuMs }, i) => share(before.vcpus[i]?.cpuMs ?? cpuMs, cpuMs)),
    exits: perSecond(exitsBefore.total, exits.total),
    toJavaScript: perSecond(exitsBefore.toJavaScript, exits.toJavaScript),
    exitsByReason: Object.entries(exits.byReason)
      .map(([reason, count]) => [reason, perSecond(exitsBefore.byReason[reason] ?? 0, count)] as const)
      .sort(([, a], [, b]) => b - a),
    devices,
    diskBytes: sum(({ readBytes, writtenBytes }) => readBytes + writtenBytes),
    netFrames: sum(({ frames }) => frames),
  };
}

function deviceRates(
  before: DeviceMetrics | undefined,
  now: DeviceMetrics,
  perSecond: (from: number, to: number) => number,
): DeviceRates {
  const queues = (of: 'kicks' | 'interrupts' | 'chains' | 'errors', device?: DeviceMetrics): number =>
    (device?.queues ?? []).reduce((sum, queue) => sum + queue[of], 0);
  const rate = (of: Parameters<typeof queues>[0]): number => perSecond(queues(of, before), queues(of, now));
  const counted = (...names: string[]): number =>
    names.reduce((sum, name) => sum + perSecond(before?.counters[name] ?? 0, now.counters[name] ?? 0), 0);
  const [timedBefore, timed] = [before?.durations['request'], now.durations['request']];
  const count = (timed?.count ?? 0) - (timedBefore?.count ?? 0);
  const seconds = (timed?.sumSeconds ?? 0) - (timedBefore?.sumSeconds ?? 0);
  return {
    id: now.id,
    kicks: rate('kicks'),
    interrupts: rate('interrupts'),
    requests: rate('chains'),
    errors: queues('errors', now) + now.needsReset,
    readBytes: counted('readBytes'),
    writtenBytes: counted('writtenBytes'),
    frames: counted('sent', 'received'),
    ...(count > 0 ? { meanLatencyMs: (seconds * 1000) / count } : {}),
  };
}
