/** What this process costs the host, for all of its machines that are asked about at about the same time. */
import { readFile } from 'node:fs/promises';
import { type Clock, systemClock } from '../../util/clock.js';

export interface ProcessStats {
  readonly pid: number;
  /** Processor time of all its threads. */
  readonly cpuMs: number;
  /** Its pages: all, those shared in proportion, those that nobody else has. */
  readonly residentBytes: number;
  readonly proportionalBytes: number;
  readonly privateBytes: number;
}

/** The kernel walks all mappings for the answer, 10 ms with a hundred machines; each of them is asked for it once a second. */
const FRESH_MS = 500;

export class ProcessMeter {
  readonly #clock: Clock;
  readonly #read: () => Promise<string>;
  #last: { readonly atMs: number; readonly rollup: Promise<string> } | undefined;

  /** @param read - proc_pid_smaps_rollup(5), or nothing where it cannot be had */
  constructor(clock: Clock = systemClock, read: () => Promise<string> = readRollup) {
    this.#clock = clock;
    this.#read = read;
  }

  async stats(): Promise<ProcessStats> {
    const nowMs = this.#clock.nowMs();
    if (this.#last === undefined || nowMs - this.#last.atMs >= FRESH_MS) {
      this.#last = { atMs: nowMs, rollup: this.#read() };
    }
    const { user, system } = process.cpuUsage();
    const rollup = Object.fromEntries(
      [...(await this.#last.rollup).matchAll(/^(\w+): +(\d+) kB$/gm)].map(([, name = '', kib]) => [
        name,
        Number(kib) * 1024,
      ]),
    );
    return {
      pid: process.pid,
      cpuMs: (user + system) / 1000,
      residentBytes: rollup['Rss'] ?? 0,
      proportionalBytes: rollup['Pss'] ?? 0,
      privateBytes: (rollup['Private_Clean'] ?? 0) + (rollup['Private_Dirty'] ?? 0),
    };
  }
}

/** On another thread than the devices'. */
function readRollup(): Promise<string> {
  return readFile('/proc/self/smaps_rollup', 'utf8').catch(() => '');
}
