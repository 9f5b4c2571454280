import { expect, test } from 'vitest';
import { ProcessMeter } from '../../../src/control/stats/process-meter.js';
import { FakeClock } from '../../support/fake-clock.js';

test('asks the kernel once for all who ask at about the same time', async () => {
  let reads = 0;
  const clock = new FakeClock();
  const meter = new ProcessMeter(clock, async () => {
    reads++;
    return { residentBytes: reads, proportionalBytes: 2, privateBytes: 2 };
  });
  const many = await Promise.all(Array.from({ length: 100 }, () => meter.stats()));
  expect(reads).toBe(1);
  expect(many[99]).toMatchObject({
    pid: process.pid,
    residentBytes: 1,
    proportionalBytes: 2,
    privateBytes: 2,
  });
  clock.advance(500);
  expect(await meter.stats()).toMatchObject({ residentBytes: 2 });
});

test('of a real process', async () => {
  const { residentBytes, proportionalBytes, privateBytes, cpuMs } = await new ProcessMeter().stats();
  expect(residentBytes).toBeGreaterThanOrEqual(proportionalBytes);
  expect(proportionalBytes).toBeGreaterThanOrEqual(privateBytes);
  expect([privateBytes > 1 << 20, cpuMs > 0]).toEqual([true, true]);
});
