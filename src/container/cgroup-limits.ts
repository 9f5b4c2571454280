/** Limits, as files of cgroups: what is written where, for version 1 and 2. */
import { statSync } from 'node:fs';
import type { Controller } from './cgroup-host.js';
import type { IoLimit, Limits } from './config.js';

/** Of the bandwidth controller's periods; the kernel's own default. */
export const CPU_PERIOD_US = 100_000;

export const cpuQuotaUs = (cpus: number): number => Math.round(cpus * CPU_PERIOD_US);

/** One file's new content. */
export type Setting = readonly [controller: Controller, file: string, value: string];

/** What is written where, in order. */
export function settings(
  { cpus, memoryBytes, pids, io }: Limits,
  versionOf: (controller: Controller) => 1 | 2 | undefined,
): readonly Setting[] {
  const result: Setting[] = [];
  if (cpus !== undefined) {
    const quotaUs = cpuQuotaUs(cpus);
    if (versionOf('cpu') === 2) result.push(['cpu', 'cpu.max', `${quotaUs} ${CPU_PERIOD_US}`]);
    else
      result.push(
        ['cpu', 'cpu.cfs_period_us', String(CPU_PERIOD_US)],
        ['cpu', 'cpu.cfs_quota_us', String(quotaUs)],
      );
  }
  if (memoryBytes !== undefined) {
    if (versionOf('memory') === 2) {
      result.push(['memory', 'memory.max', String(memoryBytes)], ['memory', 'memory.swap.max', '0']);
    } else {
      result.push(
        ['memory', 'memory.limit_in_bytes', String(memoryBytes)],
        ['memory', 'memory.memsw.limit_in_bytes', String(memoryBytes)],
      );
    }
  }
  if (pids !== undefined) result.push(['pids', 'pids.max', String(pids)]);
  for (const limit of io ?? []) result.push(...ioSettings(limit, versionOf('blkio')));
  return result;
}

function ioSettings(limit: IoLimit, version: 1 | 2 | undefined): readonly Setting[] {
  const { rdev } = statSync(limit.device);
  const device = deviceNumbers(rdev);
  const rows = [
    ['rbps', 'read_bps', limit.readBytes],
    ['wbps', 'write_bps', limit.writeBytes],
    ['riops', 'read_iops', limit.readOperations],
    ['wiops', 'write_iops', limit.writeOperations],
  ] as const;
  const asked = rows.filter(([, , value]) => value !== undefined);
  if (version === 2) {
    return [['blkio', 'io.max', `${device} ${asked.map(([key, , value]) => `${key}=${value}`).join(' ')}`]];
  }
  return asked.map(([, key, value]) => ['blkio', `blkio.throttle.${key}_device`, `${device} ${value}`]);
}

/** glibc's makedev, turned round: what stat has, as the kernel prints it. */
export function deviceNumbers(rdev: number): string {
  const word = BigInt(rdev);
  const major = ((word >> 8n) & 0xfffn) | ((word >> 32n) & 0xffff_f000n);
  const minor = (word & 0xffn) | ((word >> 12n) & 0xffff_ff00n);
  return `${major}:${minor}`;
}
