/** Time, so that tests can have their own. */
export interface Clock {
  nowMs(): number;
  /** Returns a function that calls it off. */
  after(ms: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
