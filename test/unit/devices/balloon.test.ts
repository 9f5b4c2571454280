import { describe, expect, test } from 'vitest';
import type { BalloonHost } from '../../../src/devices/backends/balloon.js';
import { Balloon, balloonKind } from '../../../src/devices/balloon/balloon.js';
import { TsvmError } from '../../../src/errors.js';
import { FakeClock } from '../../support/fake-clock.js';
import { type MockQueue, Rig } from '../../support/mock-driver.js';

const STATS_VQ = 1n << 1n;
const REPORTING = 1n << 5n;
const PAGE = 4096;

/** A host that drops memory when it is told to. */
class TestHost implements BalloonHost {
  readonly released: [offset: number, length: number][] = [];
  readonly waiting: (() => void)[] = [];
  failing = false;
  slow = false;

  attach(): void {}

  async release(views: readonly Uint8Array[]): Promise<void> {
    if (this.slow) await new Promise<void>((resolve) => this.waiting.push(resolve));
    if (this.failing) throw new Error('no');
    for (const view of views) {
      this.released.push([view.byteOffset, view.length]);
      view.fill(0);
    }
  }

  finish(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

function setUp(options: { features?: bigint } = {}) {
  const host = new TestHost();
  const clock = new FakeClock();
  const device = new Balloon(host, clock);
  const rig = new Rig(device);
  const { features } = options;
  rig.driver.start(features === undefined ? {} : { features });
  return { host, clock, device, rig, driver: rig.driver };
}

/** Lets promises settle. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 10; i++) await Promise.resolve();
};

const pfns = (...pages: number[]): Uint8Array => new Uint8Array(Uint32Array.from(pages).buffer);

/** struct virtio_balloon_stat */
function stats(entries: readonly (readonly [tag: number, value: bigint])[]): Uint8Array {
  const bytes = Buffer.alloc(10 * entries.length);
  entries.forEach(([tag, value], i) => {
    bytes.writeUInt16LE(tag, 10 * i);
    bytes.writeBigUInt64LE(value, 10 * i + 2);
  });
  return bytes;
}

function give(queue: MockQueue, readable: readonly Uint8Array[], writable: readonly number[] = []) {
  const request = queue.add(readable, writable);
  queue.kick();
  return request;
}

describe('inflation', () => {
  test('drops the pages that are named, neighbours together, and then gives the buffer back', async () => {
    const { host, driver, rig } = setUp();
    host.slow = true;
    const queue = driver.queue(0);
    give(queue, [pfns(300, 302, 301, 310, 301)]);
    await settle();
    expect(queue.used()).toEqual([]);
    host.finish();
    await settle();
    expect(queue.used()).toHaveLength(1);
    expect(host.released).toEqual([
      [300 * PAGE, 3 * PAGE],
      [310 * PAGE, PAGE],
    ]);
    expect(rig.interrupts).toBeGreaterThan(0);
  });

  test.each([
    ['beyond RAM', [0xffff_ffff]],
    ['in the first page beyond it', [1 << 20]],
    ['of nothing', []],
  ])('a request with pages %s comes back, and drops nothing (hostile 46)', async (_, pages) => {
    const { host, driver, device } = setUp();
    give(driver.queue(0), [pfns(...pages)]);
    await settle();
    expect(driver.queue(0).used()).toHaveLength(1);
    expect(host.released).toEqual([]);
    expect(device.counters.badPages).toBe(pages.length);
  });

  test('of a request that never ends, only the beginning counts', async () => {
    const { host, driver, device } = setUp();
    give(driver.queue(0), [pfns(...Array.from({ length: 5000 }, (_, i) => 256 + (i % 4)))]);
    await settle();
    expect(host.released).toEqual([[256 * PAGE, 4 * PAGE]]);
    expect(device.counters.badPages).toBe(5000 - 4096);
  });

  test('of its own rings hurts the guest alone (hostile 46)', async () => {
    const { driver, device, rig } = setUp();
    const queue = driver.queue(0);
    const page = Math.floor(queue.availAddr / PAGE);
    give(queue, [pfns(page - 1, page, page + 1)]);
    await settle();
    give(queue, [pfns(300)]);
    await settle();
    await rig.driver.reset();
    expect(device.counters.failures).toBe(0);
  });

  test('a failure of the host’s is counted, and the buffer comes back', async () => {
    const { host, driver, device } = setUp();
    host.failing = true;
    give(driver.queue(0), [pfns(300)]);
    await settle();
    expect(driver.queue(0).used()).toHaveLength(1);
    expect(device.counters.failures).toBe(1);
  });

  test('what is taken back comes back at once', () => {
    const { driver } = setUp();
    give(driver.queue(1), [pfns(300, 301)]);
    expect(driver.queue(1).used()).toHaveLength(1);
  });

  test('setTarget() tells the driver, whose answer is actualBytes', () => {
    const { device, driver, rig } = setUp();
    const before = rig.interrupts;
    device.setTarget(10 * PAGE + 1);
    expect(rig.interrupts).toBeGreaterThan(before);
    expect(driver.config(0, 4)).toBe(10);
    driver.writeConfig(4, Uint8Array.of(7, 0, 0, 0));
    expect(device.actualBytes).toBe(7 * PAGE);
    // The target is not the driver's to change.
    driver.writeConfig(0, Uint8Array.of(99, 0, 0, 0));
    expect(device.targetBytes).toBe(10 * PAGE);
  });
});

describe('free page reporting', () => {
  test.each([
    ['with statistics: queue 3', undefined, 3],
    ['without: queue 2', REPORTING | (1n << 32n), 2],
  ])('drops what is reported before the report comes back (%s)', async (_, features, index) => {
    const { host, driver, device } = setUp(features === undefined ? {} : { features });
    host.slow = true;
    const queue = driver.queue(index);
    queue.addDescriptors([
      { addr: 0x20_0000, length: 0x4000, flags: 2 },
      { addr: 0x28_0000, length: 0x8000, flags: 2 },
    ]);
    queue.kick();
    await settle();
    expect(queue.used()).toEqual([]);
    host.finish();
    await settle();
    expect(queue.used()).toMatchObject([{ length: 0 }]);
    expect(host.released).toEqual([
      [0x20_0000, 0x4000],
      [0x28_0000, 0x8000],
    ]);
    expect(device.counters.reportedBytes).toBe(0xc000);
  });
});

describe('stats()', () => {
  const SOME = stats([
    [4, 1000n],
    [5, 4000n],
    [99, 1n],
    [10, 3n],
  ]);

  test('5.5.6.3: gives the buffer back to ask, and reads the next', async () => {
    const { device, driver } = setUp();
    const queue = driver.queue(2);
    give(queue, [stats([[4, 1n]])]);
    expect(queue.used()).toEqual([]);
    const [one, two] = [device.stats(), device.stats()];
    expect(queue.used()).toHaveLength(1);
    give(queue, [SOME]);
    expect(await one).toEqual({ freeBytes: 1000, totalBytes: 4000, oomKills: 3 });
    expect(await two).toEqual(await one);
    expect(queue.used()).toEqual([]);
  });

  test('finds a buffer that was made available before DRIVER_OK, as Linux does', async () => {
    const { device, driver } = setUp();
    const queue = driver.queue(2);
    queue.add([stats([[4, 1n]])], []);
    const asked = device.stats();
    expect(queue.used()).toHaveLength(1);
    give(queue, [SOME]);
    expect(await asked).toMatchObject({ freeBytes: 1000 });
  });

  test('asks as soon as the driver has a buffer', async () => {
    const { device, driver } = setUp();
    const asked = device.stats();
    give(driver.queue(2), [stats([[4, 1n]])]);
    expect(driver.queue(2).used()).toHaveLength(1);
    give(driver.queue(2), [SOME]);
    expect(await asked).toMatchObject({ freeBytes: 1000 });
  });

  test.each([
    ['has no driver', { features: 1n << 32n }],
    ['does not answer', {}],
  ])('rejects when the guest %s', async (_, options) => {
    const { device, clock } = setUp(options);
    const asked = device.stats();
    const outcome = expect(asked).rejects.toMatchObject({ code: 'TSVM_BALLOON' });
    clock.advance(5000);
    await outcome;
    expect(clock.armed).toBe(false);
  });

  test('rejects when the device is reset', async () => {
    const { device, driver, clock } = setUp();
    const outcome = expect(device.stats()).rejects.toThrow(/reset/);
    await driver.reset();
    await outcome;
    expect(clock.armed).toBe(false);
  });

  test('a guest may say anything, as long as it likes', async () => {
    const { device, driver } = setUp();
    const queue = driver.queue(2);
    give(queue, [new Uint8Array(7)]);
    const asked = device.stats();
    give(queue, [
      stats(Array.from({ length: 400 }, (_, i) => [i % 3, 2n ** 64n - 1n] as const)),
      new Uint8Array(3),
    ]);
    expect(await asked).toEqual({ swapInBytes: 2 ** 64, swapOutBytes: 2 ** 64, majorFaults: 2 ** 64 });
    // Two buffers: the older goes back.
    give(queue, [SOME]);
    expect(queue.used()).toHaveLength(2);
    expect(STATS_VQ).toBe(2n);
  });
});

describe('saved', () => {
  test('waits for what is being dropped, and keeps target, size and the buffer for statistics', async () => {
    const { host, device, driver, rig } = setUp();
    give(driver.queue(2), [stats([[4, 5n]])]);
    device.setTarget(20 * PAGE);
    driver.writeConfig(4, Uint8Array.of(6, 0, 0, 0));
    host.slow = true;
    give(driver.queue(0), [pfns(300)]);
    let drained = false;
    const pausing = Promise.resolve(rig.core.pause()).then(() => {
      drained = true;
    });
    await settle();
    expect(drained).toBe(false);
    host.finish();
    await pausing;
    const state = rig.transport.save();
    const memory = rig.memory.read(0, rig.memory.sizeBytes);
    const copy = new Balloon(new TestHost(), new FakeClock());
    const again = new Rig(copy, { regions: [{ addr: 0, bytes: memory }] });
    again.transport.restore(state);
    again.core.resume();
    expect(copy.targetBytes).toBe(20 * PAGE);
    expect(copy.actualBytes).toBe(6 * PAGE);
    const usedBefore = again.memory.readU16(driver.queue(2).usedAddr + 2);
    copy.stats().catch(() => {});
    expect(again.memory.readU16(driver.queue(2).usedAddr + 2)).toBe(usedBefore + 1);
    await copy.close();
  });

  test.each([
    [{}],
    [{ targetBytes: 1, actualBytes: 0 }],
    [{ targetBytes: 0, actualBytes: -PAGE }],
    [{ targetBytes: 2 ** 60, actualBytes: 0 }],
    [{ version: 2, targetBytes: 0, actualBytes: 0 }],
  ])('restore() refuses %j (hostile 50)', (state) => {
    expect(() => new Balloon(new TestHost()).restore({ version: 1, ...state })).toThrow(TsvmError);
  });
});

test('balloonKind.fromCli() takes no argument', () => {
  expect(() => balloonKind.fromCli('64M')).toThrow("--balloon takes no argument, not '64M'");
});
