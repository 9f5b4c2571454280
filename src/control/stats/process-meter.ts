/** Costs of this process to the host, read once for all of its machines that are asked about at about the same time. */
import { type HeldMemory, ownHeldMemory } from '../../host/proc.js';
import { type Clock, systemClock } from '../../util/clock.js';

/** Costs of a process: its memory, and its processor time. */
export interface ProcessStats extends HeldMemory {
  readonly pid: number;
  /** Processor time of all its threads. */
  readonly cpuMs: number;
}

/** The kernel walks all mappings for the answer, 10 ms with a hundred machines; each of them is asked for it once a second. */
const FRESH_MS = 500;

export class ProcessMeter {
  readonly #clock: Clock;
  readonly #read: () => Promise<HeldMemory>;
  #last: { readonly atMs: number; readonly held: Promise<HeldMemory> } | undefined;

  constructor(clock: Clock = systemClock, read: () => Promise<HeldMemory> = ownHeldMemory) {
    this.#clock = clock;
    this.#read = read;
  }

  async stats(): Promise<ProcessStats> {
    const nowMs = this.#clock.nowMs();
    if (this.#last === undefined || nowMs - this.#last.atMs >= FRESH_MS) {
      this.#last = { atMs: nowMs, held: this.#read() };
    }
    const { user, system } = process.cpuUsage();
    return { pid: process.pid, cpuMs: (user + system) / 1000, ...(await this.#last.held) };
  }
}
