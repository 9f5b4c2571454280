import { describe, expect, test } from 'vitest';
import { NET_HEADER_BYTES as HEADER_BYTES, MAX_FRAME_BYTES } from '../../../src/devices/backends/net.js';
import { Net } from '../../../src/devices/net/net.js';
import { VIRTIO_F_VERSION_1 } from '../../../src/virtio/features.js';
import { NEEDS_RESET, Rig } from '../../support/mock-driver.js';
import { type Bench, bench, buffersOf, frame, HEADER, header, MAC } from '../../support/net-bench.js';
import { TestCable } from '../../support/test-cable.js';

const CONFIG_CHANGED = 2;

describe('Net configuration', () => {
  test('has address, link and MTU (5.1.4)', () => {
    const { rig } = bench({ mtu: 1400 });
    expect([0, 1, 2, 3, 4, 5].map((i) => rig.driver.config(i, 1))).toEqual([...MAC]);
    expect(rig.driver.config(6, 2)).toBe(1);
    expect(rig.driver.config(10, 2)).toBe(1400);
  });

  test('has the backend’s MTU if nothing else is said', () => {
    expect(bench().rig.driver.config(10, 2)).toBe(1500);
  });

  test('is read-only', () => {
    const { rig } = bench();
    rig.driver.writeConfig(0, new Uint8Array(6).fill(0xee));
    expect(rig.driver.config(0, 1)).toBe(2);
  });

  test('tells the driver of a cable that is pulled, once, and sends nothing then', () => {
    const { rig, cable, tx, net } = bench();
    cable.link(true);
    expect(rig.driver.takeInterrupts()).toBe(0);
    cable.link(false);
    expect(rig.driver.takeInterrupts()).toBe(CONFIG_CHANGED);
    expect(rig.driver.config(6, 2)).toBe(0);
    tx.add([HEADER, frame(60)], []);
    tx.kick();
    expect(tx.used()).toHaveLength(1);
    expect([cable.sent.length, net.counters.unsent]).toEqual([0, 1]);
    cable.link(true);
    expect(rig.driver.config(6, 2)).toBe(1);
  });
});

describe('Net transmit', () => {
  test('sends frames without their header, whatever the driver cut them into (2.7.4.1)', () => {
    const { cable, tx, rig } = bench();
    const bytes = frame(100);
    tx.add([HEADER, bytes], []);
    tx.add([Buffer.concat([HEADER, bytes])], []);
    tx.add([HEADER.subarray(0, 5), HEADER.subarray(5), bytes.subarray(0, 1), bytes.subarray(1)], [], {
      indirect: true,
    });
    tx.kick();
    expect(cable.sent).toEqual([bytes, bytes, bytes]);
    expect(cable.flushes).toBe(1);
    expect(tx.used().map(({ length }) => length)).toEqual([0, 0, 0]);
    expect(rig.interrupts).toBe(1);
  });

  test('takes the shortest and the longest frame', () => {
    const { cable, tx } = bench();
    tx.add([HEADER, frame(14)], []);
    tx.add([HEADER, frame(MAX_FRAME_BYTES)], []);
    tx.kick();
    expect(cable.sent.map(({ length }) => length)).toEqual([14, MAX_FRAME_BYTES]);
  });

  test.each([
    ['nothing at all', [], [8]],
    ['less than a header', [HEADER.subarray(0, 11)], []],
    ['a header only', [HEADER], []],
    ['less than an Ethernet header', [HEADER, frame(13)], []],
    ['more than any frame', [HEADER, frame(MAX_FRAME_BYTES + 1)], []],
    ['NEEDS_CSUM, which was not negotiated (5.1.6.2.1)', [header(1), frame(60)], []],
    ['DATA_VALID', [header(2), frame(60)], []],
    ['GSO of TCP, which was not negotiated', [header(0, 1, 54, 0, 100), frame(60)], []],
    ['GSO of no known kind', [header(0, 0x7f), frame(60)], []],
  ] as const)('counts and drops %s (hostile 42)', (_name, readable, writable) => {
    const { cable, tx, net, rig } = bench();
    tx.add([...readable], [...writable]);
    tx.add([HEADER, frame(60)], []);
    tx.kick();
    expect(tx.used().map(({ length }) => length)).toEqual([0, 0]);
    expect(cable.sent).toHaveLength(1);
    expect(net.counters.malformed).toBe(1);
    expect(rig.failures).toEqual([]);
  });

  test('ignores the fields that only mean something with offloads', () => {
    const { cable, tx } = bench();
    tx.add([header(0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255), frame(60)], []);
    tx.kick();
    expect(cable.sent).toHaveLength(1);
  });

  test('drops a chain of gigabytes without reading it (hostile 42)', () => {
    const { cable, tx, net, rig } = bench();
    const parts = Array.from({ length: 256 }, () => ({ addr: 0, length: 4 << 20 }));
    tx.addDescriptors(parts);
    tx.kick();
    expect(tx.used()).toEqual([{ head: 0, length: 0 }]);
    expect([cable.sent.length, net.counters.malformed, rig.failures.length]).toEqual([0, 1, 0]);
  });

  test('leaves frames in the queue while the backend has no room (hostile 44)', () => {
    const { cable, tx } = bench();
    cable.capacity = 2;
    for (let i = 0; i < 5; i++) tx.add([HEADER, frame(60, i)], []);
    tx.kick();
    expect([cable.sent.length, tx.used().length]).toEqual([2, 2]);
    tx.kick();
    expect(cable.sent).toHaveLength(2);
    cable.drain(1);
    expect([cable.sent.length, tx.used().length]).toEqual([3, 1]);
    cable.drain();
    expect(cable.sent.map((bytes) => bytes[0])).toEqual([0, 1, 2, 3, 4]);
    expect(tx.used()).toHaveLength(2);
  });

  test('does no more for one kick than the queue has entries (hostile 12)', () => {
    const { cable, tx, rig } = bench({ queueSize: 4 });
    const head = tx.addDescriptors([{ addr: 0x10_0000, length: 72 }]);
    for (let i = 0; i < 3; i++) tx.rawPublish(head);
    // A driver on another CPU that makes each frame available again as soon as it is back.
    const send = cable.send.bind(cable);
    cable.send = (frame) => {
      send(frame);
      if (cable.sent.length < 10) tx.rawPublish(head);
    };
    tx.kick();
    expect(cable.sent).toHaveLength(4);
    rig.runDeferred();
    expect(cable.sent).toHaveLength(8);
    rig.runDeferred();
    rig.runDeferred();
    expect(cable.sent).toHaveLength(13);
  });
});

describe('Net receive', () => {
  test('writes a header of zeroes, one buffer, and the frame (5.1.6.4.1 MUST)', () => {
    const { cable, rx, rig } = bench();
    const request = rx.add([], [HEADER_BYTES, 1514]);
    cable.deliver(frame(100));
    expect(rx.used()).toEqual([{ head: request.head, length: HEADER_BYTES + 100 }]);
    const bytes = rx.written(request);
    expect(bytes.subarray(0, HEADER_BYTES)).toEqual(Buffer.from(header(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)));
    expect(bytes.subarray(HEADER_BYTES, HEADER_BYTES + 100)).toEqual(Buffer.from(frame(100)));
    expect(rig.interrupts).toBe(1);
  });

  test('spreads a frame over buffers, counts them, and shows them together (5.1.6.4.1 MUST)', () => {
    const { cable, rx, rig } = bench();
    const requests = [rx.add([], [512]), rx.add([], [256, 256]), rx.add([], [512])];
    const bytes = frame(1200);
    cable.deliver(bytes);
    expect(rx.used()).toEqual([
      { head: requests[0]?.head, length: 512 },
      { head: requests[1]?.head, length: 512 },
      { head: requests[2]?.head, length: HEADER_BYTES + 1200 - 1024 },
    ]);
    const whole = Buffer.concat(requests.map((request) => rx.written(request)));
    expect(buffersOf(whole)).toBe(3);
    expect(whole.subarray(HEADER_BYTES, HEADER_BYTES + 1200)).toEqual(Buffer.from(bytes));
    expect(rig.interrupts).toBe(1);
  });

  test('waits for buffers, and goes on where it stopped (hostile 43)', () => {
    const { cable, rx, net } = bench();
    cable.deliver(frame(60, 1), frame(60, 2));
    expect(cable.waiting).toHaveLength(2);
    const first = rx.add([], [1526]);
    rx.kick();
    expect(rx.used()).toHaveLength(1);
    expect(rx.written(first)[HEADER_BYTES]).toBe(1);
    expect(cable.waiting).toHaveLength(1);
    const second = rx.add([], [1526]);
    rx.kick();
    expect(rx.written(second)[HEADER_BYTES]).toBe(2);
    expect([cable.waiting.length, net.counters.received, net.counters.dropped]).toEqual([0, 2, 0]);
  });

  test('drops what is longer than an MTU that was negotiated, VLAN tags aside (5.1.4.1 MUST NOT)', () => {
    const deliver = (made: Bench): number[] => {
      for (let i = 0; i < 3; i++) made.rx.add([], [2000]);
      const tagged = frame(1518);
      tagged.set([0x81, 0], 12);
      made.cable.deliver(frame(1514), frame(1515), tagged);
      return [made.net.counters.received, made.net.counters.dropped];
    };
    expect(deliver(bench())).toEqual([2, 1]);
    expect(deliver(bench({ features: VIRTIO_F_VERSION_1 }))).toEqual([3, 0]);
  });

  test('takes no buffer while there are too few for a frame', () => {
    const { cable, rx } = bench();
    rx.add([], [100]);
    rx.add([], [100]);
    cable.deliver(frame(250));
    expect(rx.used()).toEqual([]);
    rx.add([], [100]);
    rx.kick();
    expect(rx.used().map(({ length }) => length)).toEqual([100, 100, 62]);
  });

  test('drops a frame that is longer than all buffers that there can be (hostile 43)', () => {
    const { cable, rx, net } = bench({ queueSize: 4 });
    for (let i = 0; i < 4; i++) rx.add([], [100]);
    cable.deliver(frame(389), frame(60));
    expect(rx.used()).toHaveLength(1);
    expect([net.counters.dropped, net.counters.received, cable.waiting.length]).toEqual([1, 1, 0]);
  });

  test.each([
    ['without room', [], [Uint8Array.of(1)]],
    ['smaller than the header', [11], []],
  ] as const)('returns a buffer %s, empty, and drops the frame', (_name, writable, readable) => {
    const { cable, rx, net, rig } = bench();
    rx.add([...readable], [...writable]);
    rx.add([], [1526]);
    cable.deliver(frame(60), frame(60));
    expect(rx.used().map(({ length }) => length)).toEqual([0, HEADER_BYTES + 60]);
    expect([net.counters.dropped, net.counters.received]).toEqual([1, 1]);
    expect(rig.failures).toEqual([]);
  });

  test('without MRG_RXBUF drops what one buffer does not hold, and says one buffer', () => {
    const { cable, rx, net } = bench({ features: VIRTIO_F_VERSION_1 });
    rx.add([], [HEADER_BYTES + 99]);
    const good = rx.add([], [HEADER_BYTES + 100]);
    cable.deliver(frame(100), frame(100));
    expect(rx.used().map(({ length }) => length)).toEqual([0, HEADER_BYTES + 100]);
    expect(buffersOf(rx.written(good))).toBe(1);
    expect([net.counters.dropped, net.counters.received]).toEqual([1, 1]);
  });

  test('drops frames while there is no driver, and what waited for it', async () => {
    const { cable, rig, net } = bench();
    cable.deliver(frame(60));
    expect(cable.waiting).toHaveLength(1);
    await rig.driver.reset();
    expect(cable.waiting).toHaveLength(0);
    cable.deliver(frame(60));
    expect(net.counters.dropped).toBe(2);
    const rx = rig.driver.start().queue(0);
    rx.add([], [1526]);
    cable.deliver(frame(60));
    expect(rx.used()).toHaveLength(1);
  });

  test('goes on after more frames than one kick allows (hostile 12)', () => {
    const { cable, rx, rig } = bench({ queueSize: 4 });
    const add = (): unknown => rx.addDescriptors([{ addr: 0x10_0000, length: 1526, flags: 2 }]);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 4; i++) add();
      cable.deliver(frame(60), frame(60), frame(60), frame(60));
      rig.runDeferred();
    }
    expect(rx.used().length).toBeGreaterThan(0);
    expect(cable.waiting).toEqual([]);
  });

  test('survives a ring that breaks in the middle of a frame', async () => {
    const { cable, rx, rig } = bench();
    rx.add([], [100]);
    rx.rawPublish(0xffff);
    cable.deliver(frame(500));
    expect(rig.driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
    await rig.driver.reset();
    const again = rig.driver.start().queue(0);
    again.add([], [1526]);
    cable.deliver(frame(60));
    expect(again.used()).toHaveLength(1);
  });
});

describe('Net saved', () => {
  async function saved({ rig }: Bench) {
    await rig.core.pause();
    return rig.transport.save();
  }

  test('touches no memory between drain and resume, and loses no frame', async () => {
    const made = bench();
    const { rig, cable, rx, tx } = made;
    rx.add([], [1526]);
    await rig.core.pause();
    cable.deliver(frame(60));
    tx.add([HEADER, frame(60)], []);
    tx.kick();
    expect([rx.used().length, tx.used().length, cable.sent.length]).toEqual([0, 0, 0]);
    rig.core.resume();
    expect([rx.used().length, tx.used().length, cable.sent.length]).toEqual([1, 1, 1]);
  });

  test('keeps the address and MTU that the driver has read, and connects with them', async () => {
    const made = bench({ mtu: 1400 });
    const state = await saved(made);
    const cable = new TestCable(9000);
    const other = new Net({ backend: cable, mac: Uint8Array.of(2, 9, 9, 9, 9, 9) });
    const rig = new Rig(other, { regions: made.rig.memory.regions });
    rig.transport.restore(JSON.parse(JSON.stringify(state)));
    expect(cable.mac).toEqual(MAC);
    expect(rig.driver.config(10, 2)).toBe(1400);
    made.rx.add([], [1526]);
    cable.deliver(frame(60));
    expect(made.rx.used()).toEqual([]);
    rig.core.resume();
    expect(made.rx.used()).toHaveLength(1);
    expect(made.cable.sent).toEqual([]);
  });

  test('tells a restored driver if the link is not what it was', async () => {
    const made = bench();
    const state = await saved(made);
    const cable = new TestCable();
    const rig = new Rig(new Net({ backend: cable, mac: MAC }), { regions: made.rig.memory.regions });
    rig.transport.restore(state);
    cable.link(false);
    expect(rig.driver.pendingInterrupts & CONFIG_CHANGED).toBe(CONFIG_CHANGED);
  });

  test.each([
    ['a version of the future', { version: 3 }],
    ['a limit that is none', { sendLimit: { bytesPerSecond: -1 } }],
    ['no limit', { receiveLimit: undefined }],
    ['no address', { mac: undefined }],
    ['a short address', { mac: [1, 2, 3] }],
    ['an address of no bytes', { mac: [2, 0, 0, 0, 0, 256] }],
    ['an MTU that is too small', { mtu: 67 }],
    ['an MTU that is none', { mtu: 'x' }],
    ['no link', { linkUp: 1 }],
  ])('refuses %s (hostile 50)', async (_name, change) => {
    const net = new Net({ backend: new TestCable(), mac: MAC });
    expect(() => net.restore({ ...net.save(), ...change })).toThrow(/saved state/);
  });

  test('close() closes the cable', async () => {
    const { net, cable, rx } = bench();
    rx.add([], [1526]);
    await net.close();
    cable.deliver(frame(60));
    expect([cable.closed, rx.used().length]).toEqual([true, 0]);
  });
});
