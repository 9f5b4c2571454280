/** Waiting for what comes with time, however busy the machine is. */
import { expect } from 'vitest';

/** Less than a unit test's own time, so that a failure says what did not come. */
export const WAIT_MS = 15_000;

/** Assertions on a value that is asked for again and again until they hold. */
export function eventually<T>(value: () => T) {
  return expect.poll(value, { interval: 2, timeout: WAIT_MS });
}
