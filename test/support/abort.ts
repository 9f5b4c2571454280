/** Signals that are aborted at a step of what they are given to, whichever that is. */
import { getEventListeners } from 'node:events';
import { expect } from 'vitest';

/** Signal that is aborted when it is looked at for the `count`-th time. */
export function abortedAt(count: number): { readonly signal: AbortSignal; readonly reason: Error } {
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error(`aborted at step ${count}`);
  let looks = 0;
  signal.throwIfAborted = () => {
    if (++looks >= count) controller.abort(reason);
    AbortSignal.prototype.throwIfAborted.call(signal);
  };
  return { signal, reason };
}

/** Aborts a call at its first step, its second and so on, until it is done before: returns what it gave then, and the number of steps. */
export async function abortedEverywhere<T>(
  call: (signal: AbortSignal) => Promise<T>,
  afterwards: () => Promise<void> | void,
): Promise<{ readonly value: T; readonly steps: number }> {
  for (let count = 1; ; count++) {
    const { signal, reason } = abortedAt(count);
    const outcome = await call(signal).then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    if ('value' in outcome) return { value: outcome.value, steps: count - 1 };
    expect(outcome.error).toBe(reason);
    await afterwards();
  }
}
