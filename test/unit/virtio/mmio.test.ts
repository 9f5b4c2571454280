import { beforeEach, expect, test } from 'vitest';
import { GuestError } from '../../../src/errors.js';
import type { DeviceState, VirtioContext, VirtioDevice, Virtqueue } from '../../../src/virtio/device.js';
import { REG } from '../../../src/virtio/transport/mmio.js';
import {
  ACKNOWLEDGE,
  DRIVER,
  DRIVER_OK,
  FAILED,
  FEATURES_OK,
  NEEDS_RESET,
  Rig,
} from '../../support/mock-driver.js';

const FEATURE = 1n << 5n;

/** Two queues, seven bytes of configuration of which the first may be written, and a reset as slow as the test likes. */
class Probe implements VirtioDevice {
  readonly name = 'probe';
  readonly deviceId = 42;
  readonly features = FEATURE;
  readonly queueSizes = [8, 16];
  readonly config = {
    bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7),
    write: (offset: number, data: Uint8Array): void => {
      if (offset === 0) this.config.bytes.set(data);
    },
  };
  context: VirtioContext | undefined;
  resets = 0;
  notified: number[] = [];
  finishReset: (() => void) | undefined;
  slowReset = false;
  state: DeviceState = { version: 1, secret: 7 };
  onNotify: (queue: Virtqueue) => void = () => {};

  activate(context: VirtioContext): void {
    this.context = context;
  }

  notify(queue: Virtqueue): void {
    this.notified.push(queue.index);
    this.onNotify(queue);
  }

  reset(): void | Promise<void> {
    this.resets++;
    this.context = undefined;
    if (this.slowReset) {
      return new Promise((resolve) => {
        this.finishReset = resolve;
      });
    }
  }

  save(): DeviceState {
    return this.state;
  }

  restore(state: DeviceState): void {
    this.state = state;
  }
}

let device: Probe;
let rig: Rig;
const live = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;

beforeEach(() => {
  device = new Probe();
  rig = new Rig(device);
});

test('VirtioMmio identifies itself (4.2.2)', () => {
  const { driver } = rig;
  expect(driver.read(REG.MagicValue)).toBe(0x74726976);
  expect(driver.read(REG.Version)).toBe(2);
  expect(driver.read(REG.DeviceID)).toBe(42);
  expect(driver.read(REG.VendorID)).toBe(0x4d565354);
  expect(driver.read(REG.Status)).toBe(0);
});

test('VirtioMmio says that there is no shared memory: length -1 (4.2.2)', () => {
  const { driver } = rig;
  driver.write(REG.SHMSel, 3);
  expect([driver.read(REG.SHMLenLow), driver.read(REG.SHMLenHigh)]).toEqual([0xffffffff, 0xffffffff]);
});

test('VirtioMmio offers the features of transport and device, and activates with those accepted', () => {
  const { driver } = rig;
  expect(driver.offeredFeatures()).toBe((1n << 32n) | (3n << 28n) | FEATURE);
  driver.start({ features: (1n << 32n) | FEATURE });
  expect(driver.status).toBe(live);
  expect(device.context?.features).toBe((1n << 32n) | FEATURE);
  expect(device.context?.queues.map((queue) => queue?.size)).toEqual([8, 16]);
});

test('VirtioMmio refuses features not offered, in any word, and the lack of VERSION_1 (2.2.2, 6.2; hostile 22)', () => {
  const { driver } = rig;
  expect(driver.negotiate((1n << 32n) | 2n)).toBe(false);
  expect(driver.negotiate((1n << 32n) | (1n << 40n))).toBe(false);
  expect(driver.negotiate(FEATURE)).toBe(false);
  driver.reset();
  driver.setStatus(ACKNOWLEDGE | DRIVER);
  driver.acceptFeatures(1n << 32n);
  driver.write(REG.DriverFeaturesSel, 7);
  driver.write(REG.DriverFeatures, 1);
  driver.setStatus(FEATURES_OK);
  expect(driver.status).toBe(ACKNOWLEDGE | DRIVER);
  expect(driver.negotiate()).toBe(true);
});

test('VirtioMmio locks features after FEATURES_OK (3.1.1; hostile 22)', () => {
  const { driver } = rig;
  driver.negotiate(1n << 32n);
  driver.acceptFeatures((1n << 32n) | FEATURE);
  driver.setStatus(DRIVER_OK);
  expect(device.context?.features).toBe(1n << 32n);
  expect(rig.slot.counters.refusedWrites).toBe(2);
});

test('VirtioMmio gives undefined for queues that the driver left alone', () => {
  rig.driver.negotiate();
  rig.driver.setUpQueue(1, 4);
  rig.driver.setStatus(DRIVER_OK);
  expect(device.context?.queues.map((queue) => queue?.size)).toEqual([undefined, 4]);
});

test('VirtioMmio reads and writes configuration in every width at every offset (hostile 24)', () => {
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
  driver.writeBytes(0x100, Uint8Array.of(9));
  expect(driver.config(0, 1)).toBe(9);
  driver.writeBytes(0x104, new Uint8Array(4)); // reaches beyond the end
  driver.writeBytes(0x1f0, new Uint8Array(8));
  expect(driver.config(4, 2)).toBe(0x0605);
});

test('VirtioMmio takes registers as aligned 32 bits only (4.2.2.2; hostile 25)', () => {
  const { driver } = rig;
  for (const [offset, width] of [
    [0, 1],
    [0, 2],
    [0, 8],
    [1, 4],
    [2, 4],
    [0xfe, 4],
  ] as const) {
    expect([...driver.readBytes(offset, width)]).toEqual(new Array(width).fill(0));
    driver.writeBytes(
      offset + REG.Status > 0xfc ? offset : REG.Status + (offset % 4),
      new Uint8Array(width).fill(1),
    );
  }
  expect(driver.status).toBe(0);
  expect(driver.readBytes(0x1fe, 4)).toEqual(Uint8Array.of(255, 255, 255, 255)); // off the end: nobody's
});

test('VirtioMmio survives any value in any register, for any queue (hostile 16, 25)', () => {
  const { driver } = rig;
  for (const select of [0, 1, 2, 0xffff, 0xffff_ffff]) {
    for (let offset = 0; offset < 0x100; offset += 4) {
      if (offset === REG.Status) continue;
      for (const value of [0, 1, 0xffff_ffff]) {
        driver.write(REG.QueueSel, select);
        driver.write(offset, value);
        driver.read(offset);
      }
    }
  }
  driver.write(REG.QueueSel, 0xffff);
  expect([driver.read(REG.QueueSizeMax), driver.read(REG.QueueReady)]).toEqual([0, 0]);
  expect(driver.start().status).toBe(live);
});

test('VirtioMmio reports interrupts by kind, and forgets what was acknowledged', () => {
  const { driver } = rig;
  driver.start();
  device.context?.configChanged();
  expect(driver.read(REG.InterruptStatus)).toBe(2);
  expect(driver.read(REG.ConfigGeneration)).toBe(1);
  driver.queue(0).add([], [1]);
  const queue = device.context?.queues[0] as Virtqueue;
  queue.complete(queue.pop()!, 0);
  queue.signal();
  expect(driver.read(REG.InterruptStatus)).toBe(3);
  driver.write(REG.InterruptACK, 2);
  expect(driver.takeInterrupt()).toBe(1);
  expect(driver.read(REG.InterruptStatus)).toBe(0);
  expect(rig.interrupts).toBe(2);
});

test('VirtioMmio works on when no interrupt is ever acknowledged (hostile 27)', () => {
  const { driver } = rig;
  driver.start();
  const queue = device.context?.queues[0] as Virtqueue;
  for (let i = 0; i < 100; i++) {
    driver.queue(0).usedEvent = i;
    driver.queue(0).add([], [1]);
    driver.queue(0).kick();
    queue.complete(queue.pop()!, 0);
    queue.signal();
  }
  expect(rig.interrupts).toBe(100);
  expect(driver.read(REG.InterruptStatus)).toBe(1);
});

test('VirtioMmio serves its fast registers as read() and write() would', () => {
  const { driver } = rig;
  driver.start();
  driver.write(REG.QueueSel, 1);
  device.context?.configChanged();
  const seen = new Set<number>();
  for (const register of rig.slot.fastRegisters) {
    if (register.kind !== 'load') continue;
    seen.add(register.offset);
    expect([...register.cell], `offset ${register.offset}`).toEqual([
      ...driver.readBytes(register.offset, register.cell.length),
    ]);
  }
  for (const offset of [REG.InterruptStatus, REG.Status, REG.QueueSizeMax, REG.ConfigGeneration, 0x100]) {
    expect(seen).toContain(offset);
  }
  const ack = rig.slot.fastRegisters.find((register) => register.kind === 'clear-bits');
  if (ack?.kind !== 'clear-bits') throw new Error('no clear-bits register');
  expect(ack.offset).toBe(REG.InterruptACK);
  Atomics.and(ack.cell, 0, ~2);
  expect(driver.read(REG.InterruptStatus)).toBe(0);
});

test('VirtioMmio has a doorbell for each queue', () => {
  rig.driver.start();
  const doorbells = rig.slot.fastRegisters.filter((register) => register.kind === 'doorbell');
  expect(doorbells.map(({ value, offset }) => [value, offset])).toEqual([
    [0, REG.QueueNotify],
    [1, REG.QueueNotify],
  ]);
  for (const doorbell of doorbells) doorbell.onWrite();
  expect(device.notified).toEqual([0, 1]);
});

test('VirtioMmio ignores kicks for unknown and unready queues, and before DRIVER_OK (hostile 17)', () => {
  const { driver } = rig;
  driver.write(REG.QueueNotify, 0);
  driver.negotiate();
  driver.setUpQueue(0);
  driver.write(REG.QueueNotify, 0);
  driver.setStatus(DRIVER_OK);
  for (const index of [1, 2, 0xffff, 0xffff_ffff]) driver.write(REG.QueueNotify, index);
  expect(device.notified).toEqual([]);
  driver.write(REG.QueueNotify, 0);
  expect(device.notified).toEqual([0]);
});

const BAD_SIZES = [0, 3, 9, 32, 0x10000, 0xffff_ffff, 0x8000_0000];

test.each(BAD_SIZES)('VirtioMmio refuses a queue of size %i (2.7; hostile 13)', (size) => {
  const { driver } = rig;
  driver.negotiate();
  driver.write(REG.QueueSel, 0);
  driver.write(REG.QueueSize, size);
  driver.writeQueueAddresses(0x1000, 0x2000, 0x3000);
  driver.write(REG.QueueReady, 1);
  expect(driver.read(REG.QueueReady)).toBe(0);
  expect(driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
  expect(rig.failures).toEqual([expect.stringMatching(/queue size/)]);
  expect(rig.interrupts).toBe(0); // 2.1.2: only with DRIVER_OK
});

test.each([
  ['a misaligned descriptor table', 0x1008, 0x2000, 0x3000, /aligned/],
  ['a misaligned available ring', 0x1000, 0x2001, 0x3000, /aligned/],
  ['a misaligned used ring', 0x1000, 0x2000, 0x3002, /aligned/],
  ['a descriptor table outside RAM', 0x40_0000, 0x2000, 0x3000, /not in RAM/],
  ['a used ring over the end of RAM', 0x1000, 0x2000, 0x3f_fff0, /not in RAM/],
  ['an available ring in the hole', 0x1000, 0xd000_0000, 0x3000, /not in RAM/],
  ['an address beyond 2^53', 0x1000, 2 ** 62, 0x3000, /not in RAM/],
  ['rings over each other', 0x1000, 0x1040, 0x3000, /overlaps/],
  ['one address for all', 0x1000, 0x1000, 0x1000, /overlaps/],
])('VirtioMmio refuses %s (2.7; hostile 14)', (_name, desc, avail, used, reason) => {
  const { driver } = rig;
  driver.negotiate();
  driver.write(REG.QueueSel, 0);
  driver.write(REG.QueueSize, 8);
  driver.writeQueueAddresses(desc, avail, used);
  driver.write(REG.QueueReady, 1);
  expect(driver.read(REG.QueueReady)).toBe(0);
  expect(rig.failures).toEqual([expect.stringMatching(reason)]);
});

test('VirtioMmio refuses rings that span two regions of RAM (hostile 14)', () => {
  rig = new Rig(device, {
    regions: [
      { addr: 0, bytes: new Uint8Array(0x1_0000) },
      { addr: 0x1_0000, bytes: new Uint8Array(0x1_0000) },
    ],
  });
  const { driver } = rig;
  driver.negotiate();
  driver.write(REG.QueueSel, 0);
  driver.writeQueueAddresses(0xfff0, 0x2000, 0x3000);
  driver.write(REG.QueueReady, 1);
  expect(rig.failures).toEqual([expect.stringMatching(/spans two regions/)]);
});

test('VirtioMmio locks queues once ready, and all queue registers once live (4.2.2.2; hostile 15)', () => {
  const { driver } = rig;
  driver.negotiate();
  const queue = driver.setUpQueue(0, 8);
  driver.write(REG.QueueSize, 4);
  driver.writeQueueAddresses(0, 0, 0);
  expect(rig.slot.counters.refusedWrites).toBe(7);
  driver.setStatus(DRIVER_OK);
  for (const select of [0, 1]) {
    driver.write(REG.QueueSel, select);
    driver.write(REG.QueueReady, 0);
    driver.write(REG.QueueSize, 0x10000);
    driver.writeQueueAddresses(0xffff_ffff, 0xffff_ffff, 0xffff_ffff);
    driver.write(REG.QueueReady, 1);
  }
  driver.write(REG.QueueSel, 0);
  expect(driver.read(REG.QueueReady)).toBe(1);
  queue.add([], [4]);
  const live = device.context?.queues[0] as Virtqueue;
  expect(live.size).toBe(8);
  live.complete(live.pop()!, 4);
  expect(queue.used()).toEqual([{ head: 0, length: 4 }]);
});

test('VirtioMmio lets a queue be taken back and set up anew before DRIVER_OK', () => {
  const { driver } = rig;
  driver.negotiate();
  driver.setUpQueue(0, 8);
  driver.write(REG.QueueReady, 0);
  expect(driver.read(REG.QueueReady)).toBe(0);
  driver.setUpQueue(0, 4);
  driver.setStatus(DRIVER_OK);
  expect(device.context?.queues[0]?.size).toBe(4);
});

test('VirtioMmio forgets everything at a reset (2.4.1)', () => {
  const { driver } = rig;
  driver.start();
  device.context?.configChanged();
  driver.reset();
  expect(driver.status).toBe(0);
  expect(driver.read(REG.InterruptStatus)).toBe(0);
  driver.write(REG.QueueSel, 0);
  expect(driver.read(REG.QueueReady)).toBe(0);
  driver.write(REG.QueueNotify, 0);
  expect(device.notified).toEqual([]);
  expect(driver.negotiate(1n << 32n)).toBe(true);
});

test('VirtioMmio reads a nonzero status until a slow reset is done (2.4.1 MUST; hostile 23)', async () => {
  const { driver } = rig;
  driver.start();
  const { context } = device;
  device.slowReset = true;
  const done = driver.reset();
  expect(done).toBeInstanceOf(Promise);
  expect(driver.status).toBe(live);
  // Whatever other vCPUs do meanwhile has no effect.
  driver.setStatus(FAILED);
  driver.write(REG.QueueNotify, 0);
  driver.write(REG.QueueReady, 1);
  context?.configChanged();
  context?.needsReset('too late');
  const again = driver.write(REG.Status, 0);
  expect(device.resets).toBe(2); // one of them before the start
  device.finishReset?.();
  await Promise.all([done, again]);
  expect(driver.status).toBe(0);
  expect(rig.interrupts).toBe(0);
  expect(rig.failures).toEqual([]);
  device.slowReset = false;
  expect(driver.start().status).toBe(live);
});

test('VirtioMmio needs a reset after a GuestError, tells once, and works again after the reset (2.1.2 MUST)', () => {
  const { driver } = rig;
  driver.start();
  device.onNotify = () => {
    throw new GuestError('nonsense');
  };
  driver.write(REG.QueueNotify, 0);
  driver.write(REG.QueueNotify, 0);
  expect(driver.status).toBe(live | NEEDS_RESET);
  expect(driver.takeInterrupt()).toBe(2);
  expect(rig.failures).toEqual(['nonsense']);
  expect(device.notified).toEqual([0]);
  device.onNotify = () => {};
  expect(driver.start().status).toBe(live);
});

test('VirtioMmio lets a bug of ours out', () => {
  rig.driver.start();
  device.onNotify = () => {
    throw new TypeError('a bug');
  };
  expect(() => rig.driver.write(REG.QueueNotify, 0)).toThrow(TypeError);
});

test('VirtioMmio stops a device whose driver failed, until the reset (hostile 21)', () => {
  const { driver } = rig;
  driver.start();
  driver.setStatus(FAILED);
  driver.write(REG.QueueNotify, 0);
  expect(device.notified).toEqual([]);
  expect(driver.start().status).toBe(live);
});

test('VirtioMmio survives reset in a loop (hostile 32)', () => {
  for (let i = 0; i < 200; i++) rig.driver.reset();
  expect(device.resets).toBe(200);
});

test('VirtioMmio.pause() holds kicks back, and resume() looks at every queue', async () => {
  rig.driver.start();
  await rig.slot.pause();
  rig.driver.write(REG.QueueNotify, 0);
  expect(device.notified).toEqual([]);
  rig.slot.resume();
  expect(device.notified).toEqual([0, 1]);
});

test('VirtioMmio.restore() goes on in the middle of the rings', async () => {
  const { driver } = rig;
  driver.start({ queueSize: 4 });
  const serve = (queue: Virtqueue): void => {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.complete(chain, 1);
    queue.signal();
  };
  device.onNotify = serve;
  const queue = driver.queue(1);
  for (let i = 0; i < 7; i++) {
    queue.usedEvent = queue.usedIdx;
    queue.add([], [1]);
    queue.kick();
  }
  queue.used();
  await rig.slot.pause();
  const head = queue.add([], [1]).head; // the kick gets lost
  const state = JSON.parse(JSON.stringify(rig.slot.save()));

  device = new Probe();
  const copy = new Rig(device, { regions: rig.memory.regions });
  device.onNotify = serve;
  copy.slot.restore(state);
  expect(device.state).toEqual({ version: 1, secret: 7 });
  expect(copy.driver.status).toBe(live);
  expect(copy.driver.read(REG.InterruptStatus)).toBe(1);
  copy.slot.resume();
  expect(queue.used()).toEqual([{ head, length: 1 }]);
  await copy.slot.pause();
  expect(copy.slot.save().queues[1]?.position?.nextAvail).toBe(8);
});

test('VirtioMmio.restore() trusts saved state no more than a driver (hostile 50)', async () => {
  rig.driver.start();
  await rig.slot.pause();
  const good = rig.slot.save();
  const queue = good.queues[0]!;
  const position = queue.position!;
  const bad: [RegExp, object][] = [
    [/version 9/, { version: 9 }],
    [/device type 1/, { deviceId: 1 }],
    [/1 queues/, { queues: [queue] }],
    [/not offered/, { driverFeatures: 'ffffffffffffffff' }],
    [/features/, { driverFeatures: 'rm -rf' }],
    [/queue size/, { queues: [{ ...queue, size: 0x10000 }, queue] }],
    [/not in RAM/, { queues: [{ ...queue, descHigh: 1 }, queue] }],
    [/aligned/, { queues: [queue, { ...queue, usedLow: queue.usedLow + 1 }] }],
    [/position/, { queues: [{ ...queue, position: { ...position, nextAvail: 65536 } }, queue] }],
  ];
  for (const [reason, change] of bad) {
    const copy = new Rig(new Probe(), { regions: rig.memory.regions });
    expect(() => copy.slot.restore({ ...good, ...change })).toThrow(reason);
  }
});
