import { expect, test } from 'vitest';
import { nanosecondsOf, timespecOf } from '../../../src/util/timespec.js';

test.each([
  [0n, 0n, 0n],
  [1_700_000_000_123_456_789n, 1_700_000_000n, 123_456_789n],
  [-1n, -1n, 999_999_999n],
  [-2_000_000_000n, -2n, 0n],
])('timespecOf() splits %s nanoseconds, and nanosecondsOf() joins them', (ns, seconds, rest) => {
  expect(timespecOf(ns)).toEqual([seconds, rest]);
  expect(nanosecondsOf(seconds, rest)).toBe(ns);
});
