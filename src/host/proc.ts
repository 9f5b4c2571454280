/** Facts of processes and threads, as the kernel tells them in /proc (proc(5)). */
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { TsvmError } from '../errors.js';
import { KIB } from '../util/units.js';
import { describeFileError, isOfTheMoment } from './files.js';

/** USER_HZ, in which the kernel tells times: 100 on every x86. */
const TICKS_PER_SECOND = 100;

/** Memory that a process holds, of which pages that others map too are counted in proportion or not at all. */
export interface HeldMemory {
  readonly residentBytes: number;
  readonly proportionalBytes: number;
  readonly privateBytes: number;
}

export function processExists(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

/**
 * Time at which a process was started, which tells it from a later one of the same number; undefined for one that has ended.
 *
 * @throws TsvmError `TSVM_FILE` if that cannot be known now.
 */
export function processStart(pid: number): string | undefined {
  const path = `/proc/${pid}/stat`;
  try {
    const { state, fields } = parseStat(readFileSync(path, 'utf8'));
    return state === 'Z' ? undefined : fields[18];
  } catch (cause) {
    if (!isOfTheMoment(cause)) return undefined;
    throw new TsvmError('TSVM_FILE', `cannot read ${path}: ${describeFileError(cause)}`, { cause });
  }
}

/** State and processor time of a thread of this process; `-` for one that has not run yet, or has ended. */
export function threadTimes(threadId: number): { readonly cpuMs: number; readonly state: string } {
  const { state, fields } = parseStat(procText(`self/task/${threadId}/stat`));
  const ticks = Number(fields[10] ?? 0) + Number(fields[11] ?? 0); // utime and stime
  return { cpuMs: (ticks * 1000) / TICKS_PER_SECOND, state };
}

/** Process that started another; 1 for one that has ended, whose children are init's. */
export function parentOf(pid: number): number {
  return Number(statusField(pid, 'PPid') ?? 1);
}

export function childrenOf(pid: number): number[] {
  return procText(`${pid}/task/${pid}/children`).split(/\s+/).filter(Boolean).map(Number);
}

/** Command line of a process; empty for one that has ended. */
export function commandLineOf(pid: number): readonly string[] {
  return procText(`${pid}/cmdline`).split('\0').slice(0, -1);
}

/** Value of a field of proc_pid_status(5). */
export function statusField(pid: number | 'self', name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(procText(`${pid}/status`))?.[1];
}

/** Tells whether a process has an IPv4 default route (proc_pid_net(5)). */
export function hasDefaultRoute(pid: number): boolean {
  return /^\S+\t00000000\t/m.test(procText(`${pid}/net/route`));
}

/** Memory of a process; nothing for one that has ended. The kernel walks all of its mappings for the answer. */
export function heldMemory(pid: number): HeldMemory {
  return parseRollup(procText(`${pid}/smaps_rollup`));
}

/** Memory of this process, read on another thread than the devices'. */
export async function ownHeldMemory(): Promise<HeldMemory> {
  return parseRollup(await readFile('/proc/self/smaps_rollup', 'utf8').catch(() => ''));
}

/** proc_pid_smaps_rollup(5) */
export function parseRollup(text: string): HeldMemory {
  const lines = [...text.matchAll(/^(\w+): +(\d+) kB$/gm)];
  const sum = (field: RegExp): number =>
    lines.reduce((bytes, [, name = '', kib]) => bytes + (field.test(name) ? Number(kib) * KIB : 0), 0);
  return { residentBytes: sum(/^Rss$/), proportionalBytes: sum(/^Pss$/), privateBytes: sum(/^Private_/) };
}

/** proc_pid_stat(5): the state, its third field, and those after it; the second, a name in parentheses, may hold anything. */
function parseStat(stat: string): { state: string; fields: string[] } {
  if (stat === '') return { state: '-', fields: [] };
  const [state = '-', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { state, fields };
}

/** Text of a file in /proc; nothing where it cannot be read, as of a process that has ended. */
function procText(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return '';
  }
}
