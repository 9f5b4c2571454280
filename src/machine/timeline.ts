/** When things happened, and what they cost: for `--timeline` and the benchmarks. */
import { performance } from 'node:perf_hooks';

export interface TimelineEntry {
  readonly name: string;
  /** Milliseconds since the process started. */
  readonly ms: number;
  /** KVM's count of emulated instructions over all vCPUs by then, where it has one. */
  readonly insnEmulation?: number;
}

export class Timeline {
  readonly #entries: TimelineEntry[] = [];

  mark(name: string, insnEmulation?: number): void {
    // performance.timeOrigin is the start of the process.
    const ms = Number(performance.now().toFixed(3));
    this.#entries.push(insnEmulation === undefined ? { name, ms } : { name, ms, insnEmulation });
  }

  get entries(): readonly TimelineEntry[] {
    return this.#entries;
  }
}
