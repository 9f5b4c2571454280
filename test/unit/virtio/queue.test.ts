import { AssertionError } from 'node:assert';
import { beforeEach, expect, test } from 'vitest';
import type { Chain } from '../../../src/virtio/chain.js';
import type { VirtioContext, VirtioDevice, Virtqueue } from '../../../src/virtio/device.js';
import { BAD_CHAINS } from '../../support/hostile-chains.js';
import {
  INDIRECT,
  type MockQueue,
  NEEDS_RESET,
  NEXT,
  Rig,
  WRITE,
  withoutEventIdx,
} from '../../support/mock-driver.js';

/** A device that leaves its queue to the test. */
class Probe implements VirtioDevice {
  readonly name = 'probe';
  readonly deviceId = 42;
  readonly features = 0n;
  readonly queueSizes = [8];
  context!: VirtioContext;
  onNotify: (queue: Virtqueue) => void = () => {};

  activate(context: VirtioContext): void {
    this.context = context;
  }

  notify(queue: Virtqueue): void {
    this.onNotify(queue);
  }

  reset(): void {}

  save() {
    return { version: 1 };
  }

  restore(): void {}

  get queue(): Virtqueue {
    return this.context.queues[0] as Virtqueue;
  }
}

let device: Probe;
let rig: Rig;
let ring: MockQueue;

function start(features: (offered: bigint) => bigint = (offered) => offered): void {
  device = new Probe();
  rig = new Rig(device);
  rig.driver.start({ features: features(rig.driver.offeredFeatures()) });
  ring = rig.driver.queue(0);
}

beforeEach(() => start());

function popped(): Chain {
  const chain = device.queue.pop();
  if (chain === undefined) throw new Error(`nothing popped: ${rig.failures.join()}`);
  return chain;
}

test('Virtqueue.pop() gives the readable and the writable part as streams', () => {
  ring.add([Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5, 6, 7, 8)], [3, 9]);
  const { reader, writer } = popped();
  expect([reader.length, writer.length]).toEqual([8, 12]);
  expect(reader.readU32()).toBe(0x04030201);
  expect(reader.readU16()).toBe(0x0605);
  expect(reader.remaining).toBe(2);
  const rest = new Uint8Array(8);
  expect(reader.read(rest)).toBe(2);
  expect([...rest.subarray(0, 2)]).toEqual([7, 8]);
  writer.writeU8(0xaa);
  writer.writeU64(0x0011_2233_4455_6677 % 2 ** 53);
  writer.writeU16(0xbbcc);
  expect([writer.written, writer.remaining]).toEqual([11, 1]);
  expect(() => writer.writeU16(1)).toThrow(/too short/);
  expect(() => reader.readU8()).toThrow(/too short/);
});

test('Chain.reader reads 64 bits, and refuses what a number cannot hold', () => {
  ring.add([Uint8Array.of(1, 0, 0, 0, 0, 0, 0x10, 0), new Uint8Array(8).fill(0xff)], []);
  const { reader } = popped();
  expect(reader.readU64()).toBe(0x10_0000_0000_0001);
  expect(() => reader.readU64()).toThrow(/beyond 2\^53/);
});

test('Chain.writer writes, fills, skips and takes across buffers', () => {
  const request = ring.add([], [2, 2, 4]);
  const chain = popped();
  chain.writer.write(Uint8Array.of(1, 2, 3));
  chain.writer.skip(1);
  const views = chain.writer.take(2);
  expect(views.map((view) => view.length)).toEqual([2]);
  views[0]?.set([5, 6]);
  chain.writer.fill(2, 9);
  expect(() => chain.writer.write(Uint8Array.of(1))).toThrow(/too short/);
  device.queue.complete(chain, chain.writer.written);
  expect([...ring.written(request)]).toEqual([1, 2, 3, 0, 5, 6, 9, 9]);
  expect(ring.used()).toEqual([{ head: request.head, length: 8 }]);
});

test('Chain.take() spans two neighbouring regions of memory', () => {
  device = new Probe();
  const regions = [
    { addr: 0, bytes: new Uint8Array(0x10_0000) },
    { addr: 0x10_0000, bytes: new Uint8Array(0x10_0000) },
  ];
  rig = new Rig(device, { regions });
  ring = rig.driver.start().queue(0);
  ring.addDescriptors([
    { addr: 0xf_fffe, length: 4 },
    { addr: 0xf_fff0, length: 0x20, flags: WRITE },
  ]);
  rig.memory.write(0xf_fffe, Uint8Array.of(1, 2, 3, 4));
  const chain = popped();
  expect(chain.reader.readU32()).toBe(0x04030201);
  expect(chain.writer.take(0x20).map((view) => view.length)).toEqual([0x10, 0x10]);
});

test('Virtqueue.pop() follows an indirect table, alone and after direct descriptors (2.7.5.3.2 MUST)', () => {
  ring.add([Uint8Array.of(1, 2), Uint8Array.of(3)], [4], { indirect: true });
  const first = popped();
  expect([first.reader.length, first.writer.length]).toEqual([3, 4]);
  const table = rig.driver.allocate(32);
  ring.rawDescriptor(0, { addr: table + 16, length: 4, flags: WRITE }, table);
  ring.rawDescriptor(6, { addr: 0x2000, length: 5, flags: NEXT, next: 7 });
  // The write flag of the descriptor that refers to the table is ignored.
  ring.rawDescriptor(7, { addr: table, length: 16, flags: INDIRECT | WRITE });
  ring.rawPublish(6);
  const second = popped();
  expect([second.reader.length, second.writer.length]).toEqual([5, 4]);
  expect(rig.failures).toEqual([]);
});

test('Virtqueue.pop() accepts the longest chain there may be, exactly the size of the queue (hostile 7)', () => {
  for (const indirect of [false, true]) {
    start();
    ring.add(new Array(4).fill(Uint8Array.of(1)), [1, 1, 1, 1], { indirect });
    expect(popped().reader.length).toBe(4);
    expect(rig.failures).toEqual([]);
  }
});

test('Virtqueue.pop() takes buffers of no length for what they are (hostile 5)', () => {
  ring.addDescriptors([
    { addr: 0xffff_ffff, length: 0 },
    { addr: 0x2000, length: 0, flags: WRITE },
  ]);
  const { reader, writer } = popped();
  expect([reader.length, writer.length]).toEqual([0, 0]);
  expect(writer.take(0)).toEqual([]);
  expect(() => reader.readU8()).toThrow(/too short/);
});

test('Virtqueue.complete() asserts that a chain is completed once, and with what fits', () => {
  ring.add([], [4]);
  ring.add([], [4]);
  const chain = popped();
  expect(() => device.queue.complete(chain, 5)).toThrow(AssertionError);
  device.queue.complete(chain, 4);
  expect(() => device.queue.complete(chain, 4)).toThrow(AssertionError);
});

test('Virtqueue goes round its ring, and round 2^16, for ever', () => {
  device.onNotify = (queue) => {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.complete(chain, 1);
    queue.signal();
  };
  let used = 0;
  for (let i = 0; i < 70_000; i++) {
    const head = i % 8;
    ring.rawDescriptor(head, { addr: 0x8000, length: 4, flags: WRITE });
    ring.rawPublish(head);
    if (ring.availEvent === ((ring.availIdx - 1) & 0xffff)) ring.kick();
    used += ring.used().length;
    ring.usedEvent = ring.usedIdx;
  }
  expect(used).toBe(70_000);
  expect(rig.interrupts).toBe(70_000);
  expect(rig.slot.counters.queues[0]).toEqual({
    kicks: 70_000,
    interrupts: 70_000,
    chains: 70_000,
    errors: 0,
  });
});

test('Virtqueue.signal() heeds used_event with EVENT_IDX (2.7.7.2 MUST)', () => {
  const complete = (count: number): void => {
    for (let i = 0; i < count; i++) {
      ring.add([], [1]);
      device.queue.complete(popped(), 0);
    }
  };
  ring.usedEvent = 2; // tell when the third is used
  complete(2);
  device.queue.signal();
  expect(rig.interrupts).toBe(0);
  complete(2);
  device.queue.signal();
  expect(rig.interrupts).toBe(1);
  device.queue.signal(); // nothing new
  expect(rig.interrupts).toBe(1);
  ring.availFlags = 1; // ignored with EVENT_IDX
  ring.usedEvent = 4;
  complete(1);
  device.queue.signal();
  expect(rig.interrupts).toBe(2);
});

test('Virtqueue.signal() heeds the flag, and ignores used_event, without EVENT_IDX (2.7.7.2 MUST)', () => {
  start(withoutEventIdx);
  const complete = (): void => {
    ring.add([], [1]);
    device.queue.complete(popped(), 0);
    device.queue.signal();
  };
  ring.usedEvent = 1000;
  complete();
  expect(rig.interrupts).toBe(1);
  ring.availFlags = 1;
  complete();
  expect(rig.interrupts).toBe(1);
  ring.availFlags = 0;
  complete();
  expect(rig.interrupts).toBe(2);
});

test('Virtqueue survives any used_event (hostile 20)', () => {
  for (const event of [0, 1, 7, 0x7fff, 0x8000, 0xffff]) {
    ring.usedEvent = event;
    ring.add([], [1]);
    device.queue.complete(popped(), 0);
    device.queue.signal();
  }
  expect(rig.failures).toEqual([]);
});

test('Virtqueue.pop() asks to be notified only when it finds nothing (2.7.10)', () => {
  ring.add([], [1]);
  ring.add([], [1]);
  popped();
  expect(ring.availEvent).toBe(0);
  popped();
  expect(ring.availEvent).toBe(0);
  expect(device.queue.pop()).toBeUndefined();
  expect(ring.availEvent).toBe(2);
});

test('Virtqueue.pop() does not ask again for what it has asked for: a forked machine would copy the page', () => {
  ring.add([], [1]);
  popped();
  expect(device.queue.pop()).toBeUndefined();
  const store = Atomics.store;
  let stores = 0;
  Atomics.store = ((array: Uint16Array, index: number, value: number) => {
    stores++;
    return store(array, index, value);
  }) as typeof Atomics.store;
  try {
    expect(device.queue.pop()).toBeUndefined();
    expect(stores).toBe(0);
  } finally {
    Atomics.store = store;
  }
  ring.add([], [1]);
  popped();
});

test('Virtqueue.pop() sees a buffer that came while it asked to be notified', () => {
  // The driver adds a buffer between the device's look at the index and its store of avail_event.
  const load = Atomics.load;
  ring.add([], [1]);
  popped();
  let late = true;
  Atomics.load = ((array: Uint16Array, index: number) => {
    const value = load(array, index);
    if (late && index === 1) {
      late = false;
      ring.rawDescriptor(5, { addr: 0x8000, length: 4, flags: WRITE });
      ring.rawPublish(5);
    }
    return value;
  }) as typeof Atomics.load;
  try {
    expect(popped().head).toBe(5);
  } finally {
    Atomics.load = load;
  }
});

test('Virtqueue bounds the work of one kick, and goes on later (hostile 12)', () => {
  // A driver that makes a buffer available again as soon as it is used.
  let handled = 0;
  device.onNotify = (queue) => {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      handled++;
      queue.complete(chain, 0);
      ring.rawPublish(chain.head);
    }
    queue.signal();
  };
  ring.rawDescriptor(0, { addr: 0x8000, length: 4, flags: WRITE });
  ring.rawPublish(0);
  ring.kick();
  expect(handled).toBe(8);
  expect(rig.deferred).toHaveLength(1);
  rig.runDeferred();
  expect(handled).toBe(16);
});

test('Virtqueue touches nothing after a reset (hostile 23)', () => {
  const request = ring.add([], [4]);
  const queue = device.queue;
  const chain = popped();
  rig.driver.reset();
  const before = rig.memory.read(0, 0x10000);
  queue.complete(chain, 4);
  queue.signal();
  expect(queue.pop()).toBeUndefined();
  expect(Buffer.compare(rig.memory.read(0, 0x10000), before)).toBe(0);
  expect(rig.interrupts).toBe(0);
  expect(request.head).toBe(0);
});

test('Virtqueue fetches every descriptor field once (hostile 19)', () => {
  // All four words of a descriptor are read, each by one access, before anything is decided.
  const reads: number[] = [];
  const getUint32 = DataView.prototype.getUint32;
  ring.add([Uint8Array.of(1)], [1]);
  DataView.prototype.getUint32 = function (this: DataView, offset: number, littleEndian?: boolean): number {
    reads.push(offset);
    return getUint32.call(this, offset, littleEndian);
  };
  try {
    popped();
  } finally {
    DataView.prototype.getUint32 = getUint32;
  }
  expect(reads).toEqual([0, 4, 8, 12, 16, 20, 24, 28]);
});

/** Memory for the chain of more than 2^32 bytes: 1.25 GiB of RAM that is never touched. */
let bigRam: Uint8Array | undefined;

test.each(BAD_CHAINS)('Virtqueue.pop() refuses $name', ({ build, reason, features, ramBytes }) => {
  if (ramBytes === undefined) {
    start(features);
  } else {
    bigRam ??= new Uint8Array(ramBytes);
    device = new Probe();
    rig = new Rig(device, { regions: [{ addr: 0, bytes: bigRam }] });
    ring = rig.driver.start().queue(0);
  }
  const head = build(ring, rig);
  ring.rawPublish(head);
  expect(device.queue.pop()).toBeUndefined();
  expect(rig.failures).toHaveLength(1);
  expect(rig.failures[0]).toMatch(reason);
  // It is returned all the same, with nothing written (hostile 18), and the driver is told.
  expect(ring.used()).toEqual([{ head, length: 0 }]);
  expect(rig.driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
  expect(rig.driver.takeInterrupt()).toBe(3);
  // Nothing more is popped until the reset.
  ring.rawDescriptor(1, { addr: 0x8000, length: 4 });
  ring.rawPublish(1);
  expect(device.queue.pop()).toBeUndefined();
  rig.driver.start();
  rig.driver.queue(0).add([], [4]);
  expect(popped().writer.length).toBe(4);
});

test('Virtqueue.pop() refuses a head beyond the queue, which cannot be returned (hostile 2)', () => {
  ring.rawPublish(8);
  expect(device.queue.pop()).toBeUndefined();
  expect(rig.failures).toEqual([expect.stringMatching(/head 8 is beyond a queue of 8/)]);
  expect(ring.used()).toEqual([]);
});

test('Virtqueue.pop() refuses an available index that is ahead by more than the size (hostile 10)', () => {
  ring.rawAvailIdx(9);
  expect(device.queue.pop()).toBeUndefined();
  expect(rig.failures).toEqual([expect.stringMatching(/9 entries ahead/)]);
  start();
  ring.rawAvailIdx(0xffff); // backwards
  expect(device.queue.pop()).toBeUndefined();
  expect(rig.failures).toEqual([expect.stringMatching(/65535 entries ahead/)]);
});

test('Virtqueue.pop() refuses a head that is in flight already (hostile 11)', () => {
  ring.rawDescriptor(0, { addr: 0x8000, length: 4, flags: WRITE });
  ring.rawPublish(0);
  ring.rawPublish(0);
  popped();
  expect(device.queue.pop()).toBeUndefined();
  expect(rig.failures).toEqual([expect.stringMatching(/head 0 is already in flight/)]);
  expect(ring.used()).toEqual([]);
});

test('Virtqueue.pop() takes a head again once it was completed', () => {
  ring.rawDescriptor(0, { addr: 0x8000, length: 4, flags: WRITE });
  for (let i = 0; i < 20; i++) {
    ring.rawPublish(0);
    ring.kick();
    device.queue.complete(popped(), 0);
  }
  expect(rig.failures).toEqual([]);
});

test('Virtqueue.putBack() makes pop() give the same chains again, in their order', () => {
  const requests = [ring.add([], [1]), ring.add([], [2]), ring.add([], [3])];
  const chains = [popped(), popped(), popped()];
  expect(device.queue.pop()).toBeUndefined();
  for (const chain of chains.reverse()) device.queue.putBack(chain);
  expect(rig.slot.counters.queues[0]?.chains).toBe(0);
  const again = [popped(), popped(), popped()];
  expect(again.map(({ head, writer }) => [head, writer.length])).toEqual(
    requests.map(({ head }, i) => [head, i + 1]),
  );
  expect(ring.used()).toEqual([]);
  for (const chain of again) device.queue.complete(chain, 0);
  expect(ring.used().map(({ head }) => head)).toEqual(requests.map(({ head }) => head));
});

test('Virtqueue.putBack() keeps the driver notifying of what comes after all that it made available', () => {
  ring.add([], [1]);
  const chain = popped();
  expect(device.queue.pop()).toBeUndefined();
  device.queue.putBack(chain);
  expect(ring.availEvent).toBe(1);
});

test('Virtqueue.putBack() of a chain that was completed is a bug of the device’s', () => {
  ring.add([], [1]);
  const chain = popped();
  device.queue.complete(chain, 0);
  expect(() => device.queue.putBack(chain)).toThrow(AssertionError);
});

test('Virtqueue.putBack() after the ring was found broken touches nothing', async () => {
  ring.add([], [1]);
  const chain = popped();
  ring.rawPublish(99);
  expect(device.queue.pop()).toBeUndefined();
  device.queue.putBack(chain);
  expect(rig.failures).toHaveLength(1);
  await rig.driver.reset();
  expect(rig.driver.start().queue(0).used()).toEqual([]);
});

test('Virtqueue.complete() with more to come shows the driver all of it at once', () => {
  ring.add([], [4]);
  ring.add([], [4]);
  const [first, second] = [popped(), popped()];
  device.queue.complete(first, 4, true);
  expect(ring.used()).toEqual([]);
  device.queue.complete(second, 3);
  expect(ring.used()).toEqual([
    { head: first.head, length: 4 },
    { head: second.head, length: 3 },
  ]);
  device.queue.signal();
  expect(rig.interrupts).toBe(1);
});

test('SplitQueue lets a chain read memory beside RAM, and not write to it', () => {
  device = new Probe();
  const bytes = Uint8Array.from({ length: 0x1000 }, (_, i) => i);
  rig = new Rig(device, { readOnlyRegions: [{ addr: 0x1_0000_0000, bytes }] });
  ring = rig.driver.start().queue(0);
  ring.addDescriptors([{ addr: 0x1_0000_0010, length: 3 }]);
  expect([
    ...popped()
      .reader.take(3)
      .flatMap((view) => [...view]),
  ]).toEqual([0x10, 0x11, 0x12]);
  ring.addDescriptors([{ addr: 0x1_0000_0010, length: 3, flags: WRITE }]);
  expect(device.queue.pop()).toBeUndefined();
  expect(rig.failures).toHaveLength(1);
  expect(bytes[0x10]).toBe(0x10);
});
