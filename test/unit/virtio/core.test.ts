/** The core as every transport has it: each test by way of the core's calls, and by way of registers. */
import { AssertionError } from 'node:assert';
import { beforeEach, describe, expect, test } from 'vitest';
import { GuestError } from '../../../src/errors.js';
import type { QueueLayout } from '../../../src/virtio/queue-layout.js';
import type { VirtioCore } from '../../../src/virtio/transport/core.js';
import {
  ACKNOWLEDGE,
  DRIVER,
  DRIVER_OK,
  FAILED,
  FEATURES_OK,
  NEEDS_RESET,
  Rig,
  WRITE,
} from '../../support/mock-driver.js';
import { PROBE_FEATURE as FEATURE, Probe, serve } from '../../support/probe.js';
import {
  CONFIG_CHANGED,
  type CoreTransport,
  TRANSPORT_NAMES,
  USED_BUFFER,
} from '../../support/transports.js';

const live = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
const VERSION_1 = 1n << 32n;

describe.each(TRANSPORT_NAMES)('VirtioCore by way of %s', (transport) => {
  let device: Probe;
  let rig: Rig;
  const newRig = (probe: Probe, source?: Rig): Rig =>
    new Rig(probe, { transport, ...(source && { regions: source.memory.regions }) });

  beforeEach(() => {
    device = new Probe();
    rig = newRig(device);
  });

  test('offers the features of transport and device, and activates with those accepted', () => {
    const { driver } = rig;
    expect(driver.offeredFeatures()).toBe(VERSION_1 | (3n << 28n) | FEATURE);
    driver.start({ features: VERSION_1 | FEATURE });
    expect(driver.status).toBe(live);
    expect(device.context?.features).toBe(VERSION_1 | FEATURE);
    expect(device.context?.queues.map((queue) => queue?.size)).toEqual([8, 16]);
  });

  test('refuses features not offered, in any word, and the lack of VERSION_1 (2.2.2, 6.2; hostile 22)', () => {
    const { driver } = rig;
    expect(driver.negotiate(VERSION_1 | 2n)).toBe(false);
    expect(driver.negotiate(VERSION_1 | (1n << 40n))).toBe(false);
    expect(driver.negotiate(FEATURE)).toBe(false);
    void driver.reset();
    void driver.setStatus(ACKNOWLEDGE | DRIVER);
    driver.acceptFeatures(VERSION_1);
    driver.acceptWord(7, 1);
    void driver.setStatus(FEATURES_OK);
    expect(driver.status).toBe(ACKNOWLEDGE | DRIVER);
    expect(driver.negotiate()).toBe(true);
  });

  test('locks features after FEATURES_OK (3.1.1; hostile 22)', () => {
    const { driver } = rig;
    driver.negotiate(VERSION_1);
    driver.acceptFeatures(VERSION_1 | FEATURE);
    void driver.setStatus(DRIVER_OK);
    expect(device.context?.features).toBe(VERSION_1);
    expect(rig.core.counters.refusedWrites).toBe(2);
  });

  test('gives undefined for queues that the driver left alone', () => {
    rig.driver.negotiate();
    rig.driver.setUpQueue(1, 4);
    void rig.driver.setStatus(DRIVER_OK);
    expect(device.context?.queues.map((queue) => queue?.size)).toEqual([undefined, 4]);
  });

  test('reads and writes configuration in every width at every offset (hostile 24)', () => {
    const { driver } = rig;
    expect(driver.config(0, 4)).toBe(0x04030201);
    expect(driver.config(4, 8)).toBe(0x070605);
    expect(driver.config(3, 2)).toBe(0x0504);
    for (const width of [1, 2, 4, 8]) {
      for (let offset = 0; offset + width <= 0x100; offset++) {
        expect(driver.config(offset, width)).toBeLessThanOrEqual(2 ** (8 * width));
      }
    }
    expect(driver.config(7, 1)).toBe(0);
    driver.writeConfig(0, Uint8Array.of(9));
    expect(driver.config(0, 1)).toBe(9);
    driver.writeConfig(4, new Uint8Array(4)); // reaches beyond the end
    driver.writeConfig(0xf0, new Uint8Array(8));
    expect(driver.config(4, 2)).toBe(0x0605);
  });

  test('interrupts by kind, once for each signal, whether or not the last was taken (hostile 27)', () => {
    const { driver } = rig;
    driver.start();
    device.context?.configChanged();
    expect([driver.pendingInterrupts, driver.generation]).toEqual([CONFIG_CHANGED, 1]);
    device.onNotify = serve;
    for (let i = 0; i < 100; i++) {
      driver.queue(0).usedEvent = i;
      driver.queue(0).add([], [1]);
      driver.queue(0).kick();
    }
    expect(rig.interrupts).toBe(101);
    expect(driver.takeInterrupts()).toBe(USED_BUFFER | CONFIG_CHANGED);
    expect(driver.pendingInterrupts).toBe(0);
  });

  test('ignores kicks for unknown and unready queues, and before DRIVER_OK (hostile 17)', () => {
    const { driver } = rig;
    driver.notify(0);
    driver.negotiate();
    driver.setUpQueue(0);
    driver.notify(0);
    void driver.setStatus(DRIVER_OK);
    for (const index of [1, 2, 0xffff, 0xffff_ffff]) driver.notify(index);
    expect(device.notified).toEqual([]);
    driver.notify(0);
    expect(device.notified).toEqual([0]);
  });

  const layouts: readonly (readonly [name: string, layout: Partial<QueueLayout>, reason: RegExp])[] = [
    ...[0, 3, 9, 32, 0x10000, 0xffff_ffff, 0x8000_0000].map(
      (size) => [`a size of ${size}`, { size }, /queue size/] as const,
    ),
    ['a misaligned descriptor table', { descAddr: 0x1008 }, /aligned/],
    ['a misaligned available ring', { availAddr: 0x2001 }, /aligned/],
    ['a misaligned used ring', { usedAddr: 0x3002 }, /aligned/],
    ['a descriptor table outside RAM', { descAddr: 0x40_0000 }, /not in RAM/],
    ['a used ring over the end of RAM', { usedAddr: 0x3f_fff0 }, /not in RAM/],
    ['an available ring in the hole', { availAddr: 0xd000_0000 }, /not in RAM/],
    ['an address beyond 2^53', { availAddr: 2 ** 62 }, /not in RAM/],
    ['rings over each other', { availAddr: 0x1040 }, /overlaps/],
    ['one address for all', { availAddr: 0x1000, usedAddr: 0x1000 }, /overlaps/],
  ];

  test.each(layouts)('refuses a queue with %s (2.7; hostile 13, 14)', (_name, layout, reason) => {
    rig.driver.negotiate();
    rig.driver.face.startQueue(0, {
      size: 8,
      descAddr: 0x1000,
      availAddr: 0x2000,
      usedAddr: 0x3000,
      ...layout,
    });
    expect(rig.core.isReady(0)).toBe(false);
    expect(rig.driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(rig.failures).toEqual([expect.stringMatching(reason)]);
    expect(rig.interrupts).toBe(0); // 2.1.2: only with DRIVER_OK
  });

  test('refuses rings that span two regions of RAM (hostile 14)', () => {
    const regions = [
      { addr: 0, bytes: new Uint8Array(0x1_0000) },
      { addr: 0x1_0000, bytes: new Uint8Array(0x1_0000) },
    ];
    const two = new Rig(device, { transport, regions });
    two.driver.negotiate();
    two.driver.face.startQueue(0, { size: 8, descAddr: 0xfff0, availAddr: 0x2000, usedAddr: 0x3000 });
    expect(two.failures).toEqual([expect.stringMatching(/spans two regions/)]);
  });

  test('forgets everything at a reset (2.4.1)', () => {
    const { driver } = rig;
    driver.start();
    device.context?.configChanged();
    void driver.reset();
    expect([driver.status, driver.pendingInterrupts]).toEqual([0, 0]);
    expect(rig.core.isReady(0)).toBe(false);
    driver.notify(0);
    expect(device.notified).toEqual([]);
    expect(driver.negotiate(VERSION_1)).toBe(true);
  });

  test('has a nonzero status until a slow reset is done (2.4.1 MUST; hostile 23)', async () => {
    const { driver } = rig;
    driver.start();
    const { context } = device;
    device.slowReset = true;
    const done = driver.reset();
    expect(done).toBeInstanceOf(Promise);
    expect(driver.status).toBe(live);
    // Whatever other vCPUs do meanwhile has no effect.
    void driver.setStatus(FAILED);
    driver.notify(0);
    driver.face.startQueue(0, { size: 8, descAddr: 0x1000, availAddr: 0x2000, usedAddr: 0x3000 });
    context?.configChanged();
    context?.needsReset('too late');
    const again = driver.writeStatus(0);
    expect(device.resets).toBe(2); // one of them before the start
    device.finishReset?.();
    await Promise.all([done, again]);
    expect([driver.status, rig.interrupts, rig.failures]).toEqual([0, 0, []]);
    device.slowReset = false;
    expect(driver.start().status).toBe(live);
  });

  test('needs a reset after a GuestError, tells once, and works again after the reset (2.1.2 MUST)', () => {
    const { driver } = rig;
    driver.start();
    device.onNotify = () => {
      throw new GuestError('nonsense');
    };
    driver.notify(0);
    driver.notify(0);
    expect(driver.status).toBe(live | NEEDS_RESET);
    expect(driver.takeInterrupts()).toBe(CONFIG_CHANGED);
    expect(rig.failures).toEqual(['nonsense']);
    expect(device.notified).toEqual([0]);
    device.onNotify = () => {};
    expect(driver.start().status).toBe(live);
  });

  test('lets a bug of ours out', () => {
    rig.driver.start();
    device.onNotify = () => {
      throw new TypeError('a bug');
    };
    expect(() => rig.driver.notify(0)).toThrow(TypeError);
  });

  test('stops a device whose driver failed, until the reset (hostile 21)', () => {
    const { driver } = rig;
    driver.start();
    void driver.setStatus(FAILED);
    driver.notify(0);
    expect(device.notified).toEqual([]);
    expect(driver.start().status).toBe(live);
  });

  test('survives reset in a loop (hostile 32)', () => {
    for (let i = 0; i < 200; i++) void rig.driver.reset();
    expect(device.resets).toBe(200);
  });

  test('pause() holds kicks back, and resume() looks at every queue', async () => {
    rig.driver.start();
    await rig.core.pause();
    rig.driver.notify(0);
    expect(device.notified).toEqual([]);
    rig.core.resume();
    expect(device.notified).toEqual([0, 1]);
  });

  test('pause() leaves guest memory alone whatever the device tries, and holds a queue that starts meanwhile', async () => {
    const { driver, memory } = rig;
    driver.negotiate();
    await rig.core.pause();
    for (const index of [0, 1]) driver.setUpQueue(index);
    void driver.setStatus(DRIVER_OK);
    driver.queue(0).add([], [1]);
    const before = memory.read(0, memory.sizeBytes);
    expect([device.queue(0).held, device.queue(0).pop(), device.queue(0).watch()]).toEqual([
      true,
      undefined,
      1,
    ]);
    device.queue(0).signal();
    expect(Buffer.compare(memory.read(0, memory.sizeBytes), before)).toBe(0);
    device.onNotify = serve;
    rig.core.resume();
    expect(driver.queue(0).used()).toHaveLength(1);
  });

  test('restore() goes on in the middle of the rings', async () => {
    const { driver } = rig;
    driver.start({ queueSize: 4 });
    device.onNotify = serve;
    const queue = driver.queue(1);
    for (let i = 0; i < 7; i++) {
      queue.usedEvent = queue.usedIdx;
      queue.add([], [1]);
      queue.kick();
    }
    queue.used();
    await rig.core.pause();
    const head = queue.add([], [1]).head; // the kick gets lost
    const state = JSON.parse(JSON.stringify(rig.transport.save()));
    const { descAddr, availAddr, usedAddr } = queue;
    const position = { nextAvail: 7, nextUsed: 7, signalledUsed: 7 };
    expect(state.queues[1]).toEqual({ size: 4, descAddr, availAddr, usedAddr, ready: true, position });

    device = new Probe();
    const copy = newRig(device, rig);
    device.onNotify = serve;
    copy.transport.restore(state);
    expect(device.state).toEqual({ version: 1, secret: 7 });
    expect(copy.driver.status).toBe(live);
    copy.core.resume();
    expect(queue.used()).toEqual([{ head, length: 1 }]);
    await copy.core.pause();
    expect(copy.transport.save().queues[1]?.position?.nextAvail).toBe(8);
  });

  test('restore() trusts saved state no more than a driver (hostile 50)', async () => {
    rig.driver.start();
    await rig.core.pause();
    const good = rig.transport.save();
    const queue = good.queues[0]!;
    const position = queue.position!;
    const bad: [RegExp, object][] = [
      [/version 1,/, { version: 1 }],
      [/version 9/, { version: 9 }],
      [/device type 1/, { deviceId: 1 }],
      [/1 queues/, { queues: [queue] }],
      [/not offered/, { driverFeatures: 'ffffffffffffffff' }],
      [/not offered/, { driverFeatures: 'ffffffffffffffff', status: live & ~FEATURES_OK }],
      [/features/, { driverFeatures: 'rm -rf' }],
      [/queue size/, { queues: [{ ...queue, size: 0x10000 }, queue] }],
      [/not in RAM/, { queues: [{ ...queue, descAddr: 2 ** 32 }, queue] }],
      [/not in RAM/, { queues: [{ ...queue, descAddr: Number.NaN }, queue] }],
      [/aligned/, { queues: [queue, { ...queue, usedAddr: queue.usedAddr + 1 }] }],
      [/position/, { queues: [{ ...queue, position: { ...position, nextAvail: 65536 } }, queue] }],
      [/position/, { queues: [{ ...queue, position: { ...position, nextUsed: -1 } }, queue] }],
    ];
    for (const [reason, change] of bad) {
      const copy = newRig(new Probe(), rig);
      expect(() => copy.transport.restore({ ...good, ...change })).toThrow(reason);
    }
  });
});

describe('VirtioCore starts and stops queues one by one', () => {
  let device: Probe;
  let rig: Rig;
  const core = (): VirtioCore => rig.core;
  const layout = (index: number): QueueLayout => {
    const at = 0x10_0000 + 0x1_0000 * index;
    return { size: 8, descAddr: at, availAddr: at + 0x1000, usedAddr: at + 0x2000 };
  };
  /** As a driver that made its first buffer available so many times: four bytes to write. */
  const fill = (index: number, count: number): void => {
    const { descAddr, availAddr } = layout(index);
    rig.memory.writeU64(descAddr, 0x8000);
    rig.memory.writeU32(descAddr + 8, 4);
    rig.memory.writeU16(descAddr + 12, WRITE);
    rig.memory.storeU16(availAddr + 2, count);
  };

  beforeEach(() => {
    device = new Probe();
    rig = new Rig(device, { transport: 'core' });
    rig.driver.negotiate();
    void rig.driver.setStatus(DRIVER_OK);
  });

  test('startQueue() under a live device makes it work at once, for whoever has the context', () => {
    const { queues } = device.context!;
    expect(queues[1]).toBeUndefined();
    device.onNotify = serve;
    fill(1, 1);
    expect(core().startQueue(1, layout(1))).toBeUndefined();
    expect(device.notified).toEqual([1]);
    expect(queues[1]?.alive).toBe(true);
    expect(rig.core.counters.queues[1]?.chains).toBe(1);
  });

  test('stopQueue() says where it stood, and startQueue() goes on there', async () => {
    device.onNotify = serve;
    fill(0, 3);
    core().startQueue(0, layout(0));
    const old = device.queue(0);
    await core().pause();
    const position = core().stopQueue(0);
    expect(position).toEqual({ nextAvail: 3, nextUsed: 3, signalledUsed: 3 });
    expect([old.alive, device.context?.queues[0]]).toEqual([false, undefined]);
    core().resume();
    core().notify(0);
    expect(device.notified).toEqual([0]);
    fill(0, 5);
    core().startQueue(0, layout(0), position);
    expect(rig.memory.readU16(layout(0).usedAddr + 2)).toBe(5);
    expect(rig.core.counters.queues[0]?.chains).toBe(5);
  });

  test('save() keeps where a queue is to start that does not work yet', async () => {
    const position = { nextAvail: 3, nextUsed: 3, signalledUsed: 3 };
    await rig.driver.reset();
    rig.driver.negotiate();
    core().startQueue(0, layout(0), position);
    await core().pause();
    const state = JSON.parse(JSON.stringify(rig.transport.save()));
    expect(state.queues[0].position).toEqual(position);

    device = new Probe();
    const copy = new Rig(device, { transport: 'core', regions: rig.memory.regions });
    device.onNotify = serve;
    copy.transport.restore(state);
    copy.core.resume();
    fill(0, 5);
    void copy.transport.writeStatus(live);
    copy.core.notify(0);
    expect(rig.memory.readU16(layout(0).usedAddr + 2)).toBe(5);
    expect(copy.core.counters.queues[0]?.chains).toBe(2);
  });

  test('the transport is told which queue interrupts', () => {
    device.onNotify = serve;
    for (const index of [1, 0]) {
      fill(index, 1);
      core().startQueue(index, layout(index));
    }
    expect((rig.transport as CoreTransport).interruptedQueues).toEqual([1, 0]);
  });

  test('startQueue() refuses what no queue can be at, and where none can stand', () => {
    expect(core().startQueue(0, { ...layout(0), size: 7 })).toMatch(/queue 0: queue size 7/);
    expect(core().startQueue(2, layout(0))).toMatch(/queue 2: queue size 8 is not a power of 2 up to 0/);
    const position = { nextAvail: 0, nextUsed: 0.5, signalledUsed: 0 };
    expect(core().startQueue(0, layout(0), position)).toMatch(/queue 0: its position/);
    expect(core().isReady(0)).toBe(false);
    expect(rig.failures).toEqual([]);
  });

  test('startQueue() of a device that broke down waits for the reset', () => {
    device.context?.needsReset('broken');
    expect(core().startQueue(0, layout(0))).toBeUndefined();
    core().notify(0);
    expect(device.notified).toEqual([]);
  });

  test('a queue is not started twice, stopped twice, or stopped with a request in flight', () => {
    fill(0, 1);
    core().startQueue(0, layout(0));
    expect(() => core().startQueue(0, layout(0))).toThrow(AssertionError);
    const chain = device.queue(0).pop()!;
    expect(() => core().stopQueue(0)).toThrow(AssertionError);
    device.queue(0).complete(chain, 0);
    core().stopQueue(0);
    expect(() => core().stopQueue(0)).toThrow(AssertionError);
  });
});
