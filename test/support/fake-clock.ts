import type { Clock } from '../../src/util/clock.js';

/** Time that goes on when it is told to. */
export class FakeClock implements Clock {
  ms = 0;
  readonly #tasks = new Set<{ at: number; run: () => void }>();

  nowMs(): number {
    return this.ms;
  }

  after(ms: number, run: () => void): () => void {
    const task = { at: this.ms + ms, run };
    this.#tasks.add(task);
    return () => this.#tasks.delete(task);
  }

  advance(ms: number): void {
    this.ms += ms;
    for (const task of this.#tasks) {
      if (task.at > this.ms) continue;
      this.#tasks.delete(task);
      task.run();
    }
  }

  get armed(): boolean {
    return this.#tasks.size > 0;
  }
}
