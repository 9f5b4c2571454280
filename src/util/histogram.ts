/** How long things took: counts in buckets of powers of two. Nothing is allocated to record one. */

/** The least bound: 2^4 = 16 microseconds, below which nobody cares. */
const FIRST_POWER = 4;
/** The greatest: 2^24 microseconds, 17 s. What took longer is in a bucket without bound. */
const LAST_POWER = 24;
const BUCKETS = LAST_POWER - FIRST_POWER + 2;

export class DurationHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #sumSeconds = 0;

  record(ms: number): void {
    const power = Math.ceil(Math.log2(ms * 1000));
    this.#counts[Math.min(Math.max(power, FIRST_POWER), LAST_POWER + 1) - FIRST_POWER]!++;
    this.#sumSeconds += ms / 1000;
  }

  /** As plain data: how many took at most as long, for each bound, and in all. */
  get summary(): DurationSummary {
    let total = 0;
    const atMost: [seconds: number, count: number][] = [];
    for (const [i, count] of this.#counts.entries()) {
      total += count;
      if (i < BUCKETS - 1) atMost.push([2 ** (FIRST_POWER + i) / 1e6, total]);
    }
    return { count: total, sumSeconds: this.#sumSeconds, atMost };
  }
}

export interface DurationSummary {
  readonly count: number;
  readonly sumSeconds: number;
  /** In ascending order, each count with those before it. */
  readonly atMost: readonly (readonly [seconds: number, count: number])[];
}
