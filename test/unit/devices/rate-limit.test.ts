import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { Blk, blkKind } from '../../../src/devices/blk/blk.js';
import { Net, netKind } from '../../../src/devices/net/net.js';
import { parseLimit, RateLimiter } from '../../../src/devices/rate-limit.js';
import type { TsvmError } from '../../../src/errors.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryDisk, settle } from '../../support/memory-disk.js';
import { Rig } from '../../support/mock-driver.js';
import { TestCable } from '../../support/test-cable.js';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

describe('RateLimiter', () => {
  test('lets a burst of a tenth of a second through, then so many a second', () => {
    const clock = new FakeClock();
    let resumed = 0;
    const limiter = new RateLimiter({ opsPerSecond: 100 }, clock, () => resumed++);
    let done = 0;
    const work = (): void => {
      for (; limiter.open; done++) limiter.charge(0);
    };
    work();
    expect(done).toBe(10);
    for (let i = 0; i < 1000; i++) {
      clock.advance(1);
      if (resumed > 0) work();
    }
    expect(done).toBeGreaterThanOrEqual(108);
    expect(done).toBeLessThanOrEqual(111);
  });

  test('has no timer that is longer than timers can be, whatever is owed', () => {
    const delays: number[] = [];
    const clock = {
      nowMs: () => 0,
      after(ms: number) {
        delays.push(ms);
        return () => {};
      },
    };
    for (const limit of [{ bytesPerSecond: 1 }, { bytesPerSecond: 1024 ** 4 }, { opsPerSecond: 1 }]) {
      const limiter = new RateLimiter(limit, clock, () => {});
      for (let i = 0; i < 10; i++) limiter.charge(2 ** 40);
      limiter.open;
    }
    expect(delays.length).toBeGreaterThan(0);
    for (const ms of delays) expect(ms).toBeLessThanOrEqual(2 ** 31 - 1);
  });

  test('lets as large a burst through as is said, once', () => {
    const clock = new FakeClock();
    const limiter = new RateLimiter({ opsPerSecond: 10, opsBurst: 100 }, clock, () => {});
    let done = 0;
    for (; limiter.open; done++) limiter.charge(0);
    expect(done).toBe(100);
    clock.advance(1000);
    for (; limiter.open; done++) limiter.charge(0);
    expect(done).toBeLessThanOrEqual(111);
  });

  test('lets what is larger than the bucket through, and waits for the debt', () => {
    const clock = new FakeClock();
    let resumed = 0;
    const limiter = new RateLimiter({ bytesPerSecond: 1000 }, clock, () => resumed++);
    expect(limiter.open).toBe(true);
    limiter.charge(5100);
    expect(limiter.open).toBe(false);
    clock.advance(4999);
    expect(resumed).toBe(0);
    clock.advance(2);
    expect(resumed).toBe(1);
    clock.advance(1);
    expect(limiter.open).toBe(true);
  });

  test('keeps no timer once it is stopped, nor while it is open', () => {
    const clock = new FakeClock();
    const limiter = new RateLimiter({ bytesPerSecond: 1 }, clock, () => {});
    expect(limiter.open).toBe(true);
    expect(clock.armed).toBe(false);
    limiter.charge(100);
    expect(limiter.open).toBe(false);
    expect(limiter.open).toBe(false);
    expect(clock.armed).toBe(true);
    limiter.stop();
    expect(clock.armed).toBe(false);
  });

  test('never lets more through than rate and burst allow, whatever comes when', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000 }),
        fc.array(fc.tuple(fc.nat(500), fc.nat(100)), { minLength: 1, maxLength: 60 }),
        (perSecond, steps) => {
          const clock = new FakeClock();
          const limiter = new RateLimiter({ bytesPerSecond: perSecond }, clock, () => {});
          let total = 0;
          let largest = 0;
          for (const [bytes, ms] of steps) {
            if (limiter.open) {
              limiter.charge(bytes);
              total += bytes;
              largest = Math.max(largest, bytes);
            }
            clock.advance(ms);
          }
          const allowed = Math.max(1, perSecond / 10) + (perSecond * clock.ms) / 1000 + largest;
          expect(total).toBeLessThanOrEqual(allowed + 1e-6);
        },
      ),
    );
  });

  test('without a limit is open, and asks no clock', () => {
    const clock = new FakeClock();
    const limiter = new RateLimiter({}, clock, () => {});
    clock.nowMs = () => {
      throw new Error('asked');
    };
    limiter.charge(1e9);
    expect(limiter.open).toBe(true);
  });

  test('set() begins anew, lets on what was held up, and takes back a limit that is none', () => {
    const clock = new FakeClock();
    const resume = vi.fn();
    const limiter = new RateLimiter({ opsPerSecond: 1 }, clock, resume);
    limiter.charge(1);
    expect([limiter.open, clock.armed]).toEqual([false, true]);
    limiter.set({ bytesPerSecond: 100, bytesBurst: 10 });
    expect(resume).toHaveBeenCalledTimes(1);
    expect([limiter.open, clock.armed]).toEqual([true, false]);
    expect(limiter.limit).toEqual({ bytesPerSecond: 100, bytesBurst: 10 });
    limiter.charge(30);
    expect(limiter.open).toBe(false);
    limiter.set({});
    expect([limiter.open, clock.armed]).toEqual([true, false]);
  });
});

test('Blk with a limit takes requests as they become due, and all of them', async () => {
  const clock = new FakeClock();
  const rig = new Rig(new Blk({ backend: new MemoryDisk(), limit: { opsPerSecond: 20 }, clock }));
  const queue = rig.driver.start().queue(0);
  for (let i = 0; i < 6; i++) queue.add([new Uint8Array(16)], [512, 1]);
  queue.kick();
  const finished = async (): Promise<number> => {
    await settle();
    rig.runDeferred();
    return queue.used().length;
  };
  expect(await finished()).toBe(2);
  let rest = 0;
  for (let i = 0; i < 40 && rest < 4; i++) {
    clock.advance(10);
    rest += await finished();
  }
  expect(rest).toBe(4);
  expect(clock.ms).toBeGreaterThan(150);
  // A reset in the middle leaves no timer behind.
  for (let i = 0; i < 6; i++) queue.add([new Uint8Array(16)], [512, 1]);
  queue.kick();
  await settle();
  expect(clock.armed).toBe(true);
  await rig.driver.reset();
  expect(clock.armed).toBe(false);
});

test('Net with a limit sends and receives as fast as it may, and loses nothing', () => {
  const clock = new FakeClock();
  const cable = new TestCable();
  const device = new Net({ backend: cable, mac: MAC, limit: { bytesPerSecond: 10_000 }, clock });
  const rig = new Rig(device);
  const driver = rig.driver.start();
  const [receive, transmit] = [driver.queue(0), driver.queue(1)];
  for (let i = 0; i < 10; i++) transmit.add([new Uint8Array(12), new Uint8Array(988)], []);
  transmit.kick();
  expect(transmit.used()).toHaveLength(1);
  for (let i = 0; i < 10; i++) receive.add([], [1500]);
  receive.kick();
  let sent = 1;
  for (let i = 0; i < 1200 && sent < 10; i++) {
    clock.advance(1);
    sent += transmit.used().length;
  }
  expect(sent).toBe(10);
  expect(clock.ms).toBeGreaterThan(700);
  expect(device.counters.sent).toBe(10);
});

test.each([
  ['10M', 10 * 2 ** 20],
  ['1', 1],
  ['2K', 2048],
  ['1G', 2 ** 30],
  ['0', undefined],
  ['', undefined],
  ['-1', undefined],
  ['1.5M', 1.5 * 2 ** 20],
  ['10MiB', 10 * 2 ** 20],
  ['10X', undefined],
  ['9999999999G', undefined],
  ['/1', undefined],
  ['1/', undefined],
  ['1/0', undefined],
  ['1/2/3', undefined],
])('parseLimit(%j)', (text, rate) => {
  expect(parseLimit('bytes', text)).toEqual(rate === undefined ? undefined : { bytesPerSecond: rate });
});

test('parseLimit() takes a burst', () => {
  expect(parseLimit('bytes', '1K/2K')).toEqual({ bytesPerSecond: 1024, bytesBurst: 2048 });
  expect(parseLimit('ops', '5/7')).toEqual({ opsPerSecond: 5, opsBurst: 7 });
});

test('blkKind.fromCli() reads limits, and names a wrong one', () => {
  expect(blkKind.fromCli('a.img,bps=10M,iops=500').config).toEqual({
    path: 'a.img',
    readOnly: false,
    bytesPerSecond: 10 * 2 ** 20,
    opsPerSecond: 500,
  });
  try {
    blkKind.fromCli('a.img,bps=fast');
    expect.unreachable();
  } catch (error) {
    expect((error as TsvmError).message).toBe("--disk a.img: bps 'fast' is not a number a second");
    expect((error as TsvmError).hint).toContain('for example: --disk a.img,bps=10M/64M,iops=500');
  }
});

test('netKind.fromCli() takes bps and pps', () => {
  expect(netKind.fromCli('user,bps=1M,pps=50/500').config).toMatchObject({
    bytesPerSecond: 2 ** 20,
    opsPerSecond: 50,
    opsBurst: 500,
  });
  expect(() => netKind.fromCli('user,pps=0')).toThrow("--net: pps '0' is not a number a second");
});
