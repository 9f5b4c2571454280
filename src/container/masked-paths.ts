/** Paths of /proc and /sys that tell of the host or reach it, though no namespace holds them back: the same as Docker's. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
] as const;

export const READ_ONLY_PATHS = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
] as const;

const CPUS = '/sys/devices/system/cpu';

/** Paths that nothing is seen of. How often a CPU was throttled is a clock of what its neighbours do, as interrupts are. */
export function maskedPaths(cpus = CPUS): readonly string[] {
  const throttles = namesIn(cpus)
    .filter((name) => /^cpu\d+$/.test(name) && existsSync(join(cpus, name, 'thermal_throttle')))
    .map((name) => join(CPUS, name, 'thermal_throttle'));
  return [...MASKED_PATHS, ...throttles];
}

/** Names in a folder that a host without a sysfs does not have. */
function namesIn(folder: string): readonly string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
