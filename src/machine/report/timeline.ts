/** Times at which things happened, and what they cost: for `--timeline` and the benchmarks. */
import { performance } from 'node:perf_hooks';

export interface TimelineEntry {
  readonly name: string;
  /** Milliseconds since the process started. */
  readonly ms: number;
  /** KVM's count of emulated instructions over all vCPUs by then, where it has one. */
  readonly insnEmulation?: number;
  /** Times that it happened, if more than once; `ms` is that of the first. */
  readonly count?: number;
}

export class Timeline {
  readonly #entries: { -readonly [Key in keyof TimelineEntry]: TimelineEntry[Key] }[] = [];
  /** Index of each guest mark's entry: there are 256 codes, and no more memory than that. */
  readonly #guestMarks = new Map<number, number>();

  mark(name: string, insnEmulation?: number): void {
    const ms = nowMs();
    this.#entries.push(insnEmulation === undefined ? { name, ms } : { name, ms, insnEmulation });
  }

  /** A mark that the guest set, as often as it likes: the first of each code is kept, the others are counted. */
  guestMark(code: number, name: string, insnEmulation: () => number | undefined): void {
    const index = this.#guestMarks.get(code);
    const first = index === undefined ? undefined : this.#entries[index];
    if (index === undefined || first === undefined) {
      this.#guestMarks.set(code, this.#entries.length);
      this.mark(name, insnEmulation());
    } else {
      first.count = (first.count ?? 1) + 1;
    }
  }

  get entries(): readonly TimelineEntry[] {
    return this.#entries;
  }
}

/** Makes the timeline of a machine that is about to be made. */
export function startedTimeline(): Timeline {
  const timeline = new Timeline();
  timeline.mark('create');
  return timeline;
}

/** Milliseconds since the process started, which is performance.timeOrigin. */
export function nowMs(): number {
  return Number(performance.now().toFixed(3));
}
