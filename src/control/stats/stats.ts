/** Costs and counters of a machine, at one moment: for `tsvm stats`, `tsvm top` and their like, who take differences. */
import { threadTimes } from '../../host/proc.js';
import { DEFAULT_MEMORY_BYTES } from '../../machine/config.js';
import type { MachineMetrics } from '../../machine/report/metrics.js';
import type { Instance, InstanceState } from '../instance.js';
import type { ProcessStats } from './process-meter.js';

export interface VcpuStats {
  /** Processor time of its thread, the guest's and what KVM did for it. */
  readonly cpuMs: number;
  /** State as the kernel has it: R runs, S sleeps, D waits. */
  readonly state: string;
  readonly exits: number;
}

export interface MachineStats {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  readonly state: InstanceState;
  readonly uptimeMs: number;
  /** Costs of the process that runs it, and perhaps others beside it. */
  readonly process: ProcessStats;
  readonly vcpus: readonly VcpuStats[];
  readonly memoryBytes: number;
  /** Memory that the guest gave back on request; absent without a balloon. */
  readonly balloonBytes?: number;
  readonly metrics: Omit<MachineMetrics, 'vcpus'>;
}

export async function machineStats(instance: Instance): Promise<MachineStats> {
  const { machine, state, startedMs, meter } = instance;
  const process = await meter.stats();
  const { vcpus, ...metrics } = machine.metrics();
  const atMs = Date.now();
  return {
    atMs,
    state,
    uptimeMs: startedMs === undefined ? 0 : atMs - startedMs,
    process,
    vcpus: vcpus.map(({ threadId, exits }) => ({ ...threadTimes(threadId), exits })),
    memoryBytes: machine.config.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    ...(machine.balloon === undefined ? {} : { balloonBytes: machine.balloon.actualBytes }),
    metrics,
  };
}
