/** Costs and counters of a machine, at one moment: for `tsvm stats`, `tsvm top` and their like, who take differences. */

import type { Usage } from '../../container/cgroup.js';
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
  /** Of a container: what its cgroup counts, which `process` has, too, in place of what the process that started it costs. */
  readonly container?: Usage;
}

const NO_METRICS: MachineStats['metrics'] = {
  exits: {
    total: 0,
    toJavaScript: 0,
    byHostProfile: 0,
    servedNatively: { load: 0, clearBits: 0, stream: 0 },
    byReason: {},
  },
  devices: [],
};

export async function machineStats(instance: Instance): Promise<MachineStats> {
  if (instance.container !== undefined) return await containerStats(instance, instance.container.usage);
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

async function containerStats(
  { state, startedMs, meter }: Instance,
  container: Usage,
): Promise<MachineStats> {
  const process = await meter.stats();
  const atMs = Date.now();
  const { cpuSeconds = 0, memoryBytes = 0 } = container;
  return {
    atMs,
    state,
    uptimeMs: startedMs === undefined ? 0 : atMs - startedMs,
    process: { ...process, cpuMs: cpuSeconds * 1000, proportionalBytes: memoryBytes },
    vcpus: [],
    memoryBytes,
    metrics: NO_METRICS,
    container,
  };
}
