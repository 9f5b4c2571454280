import { expect, test } from 'vitest';
import { DurationHistogram } from '../../../src/util/histogram.js';

test('DurationHistogram counts each duration in its bucket and in all above', () => {
  const histogram = new DurationHistogram();
  for (const ms of [0, 0.016, 0.017, 1, 1e9]) histogram.record(ms);
  const { count, sumSeconds, atMost } = histogram.summary;
  expect(count).toBe(5);
  expect(sumSeconds).toBeCloseTo(1e6, 0);
  expect(atMost.slice(0, 2)).toEqual([
    [16e-6, 2],
    [32e-6, 3],
  ]);
  expect(atMost.find(([seconds]) => seconds > 0.001)).toEqual([1024e-6, 4]);
  expect(atMost.at(-1)).toEqual([2 ** 24 / 1e6, 4]);
  expect(atMost.map(([, within]) => within)).toEqual(
    atMost
      .map(([, within]) => within)
      .slice()
      .sort((a, b) => a - b),
  );
});
