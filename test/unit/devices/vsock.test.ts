import { describe, expect, test } from 'vitest';
import type { VsockConnection } from '../../../src/devices/backends/vsock.js';
import { BUF_ALLOC_BYTES, MAX_CONNECTIONS } from '../../../src/devices/backends/vsock.js';
import { vsockKind } from '../../../src/devices/vsock/kind.js';
import { MAX_RESETS } from '../../../src/devices/vsock/outbox.js';
import { PATIENCE_MS } from '../../../src/devices/vsock/transport-reset.js';
import { Vsock } from '../../../src/devices/vsock/vsock.js';
import { ANSWER_MS } from '../../../src/devices/vsock/waiting.js';
import { TsvmError } from '../../../src/errors.js';
import type { DeviceState } from '../../../src/virtio/device.js';
import { FakeClock } from '../../support/fake-clock.js';
import { Rig, withoutEventIdx } from '../../support/mock-driver.js';
import { GUEST_CID, type GuestPacket, OP, RecordingPeer, VsockDriver } from '../../support/vsock-driver.js';

const ECHO_PORT = 7;
const BOTH = 3;

/** A device whose host serves ECHO_PORT, and accepts unless told otherwise. */
function setUp(options: { accept?: boolean; eventIdx?: boolean } = {}) {
  const peers: RecordingPeer[] = [];
  const clock = new FakeClock();
  const device = new Vsock({
    cid: GUEST_CID,
    clock,
    host: {
      onRequest(connection: VsockConnection) {
        if (connection.hostPort !== ECHO_PORT) return undefined;
        const peer = new RecordingPeer();
        peer.connection = connection;
        peers.push(peer);
        if (options.accept !== false) connection.accept();
        return peer;
      },
    },
  });
  const rig = new Rig(device);
  const offered = rig.driver.offeredFeatures();
  const driver = new VsockDriver(rig, {
    features: options.eventIdx === false ? withoutEventIdx(offered) : offered,
  });
  return { device, driver, peers, clock };
}

const guest = (op: number, more: Partial<GuestPacket> = {}): GuestPacket => ({
  op,
  guestPort: 1000,
  hostPort: ECHO_PORT,
  bufAlloc: 256 * 1024,
  ...more,
});

/** A guest with a connection to the host, open. */
function connected() {
  const made = setUp();
  made.driver.give(8).send(guest(OP.REQUEST));
  expect(made.driver.take().map(({ op }) => op)).toEqual([OP.RESPONSE]);
  return { ...made, peer: made.peers[0] as RecordingPeer };
}

/** A host with a connection to the guest, which has answered. */
function dialled(device: Vsock, driver: VsockDriver, port = 52) {
  const peer = new RecordingPeer();
  peer.connection = device.connect(port, peer);
  const [request] = driver.take();
  if (request === undefined || peer.connection === undefined) throw new Error('no request');
  expect(request).toMatchObject({ op: OP.REQUEST, guestPort: port, srcCid: 2n, dstCid: 3n, type: 1 });
  driver.send(guest(OP.RESPONSE, { guestPort: port, hostPort: request.hostPort }));
  expect(peer.log).toEqual(['open']);
  return { peer, hostPort: request.hostPort };
}

describe('Vsock connections', () => {
  test('a guest connects, both send, the guest closes and is answered by RST', () => {
    const { driver, peer, device } = connected();
    driver.send(guest(OP.RW, { payload: Buffer.from('hello') }));
    expect(peer.received).toBe('hello');
    peer.send(Buffer.from('world'));
    expect(driver.take()).toMatchObject([
      {
        op: OP.RW,
        payload: Buffer.from('world'),
        guestPort: 1000,
        hostPort: ECHO_PORT,
        bufAlloc: BUF_ALLOC_BYTES,
      },
    ]);
    driver.send(guest(OP.SHUTDOWN, { flags: BOTH }));
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
    expect(peer.log).toEqual(['end', 'closed']);
    expect(device.connectionCount).toBe(1); // the host may still read
    peer.connection?.consumed(5);
    peer.connection?.close();
    expect(device.connectionCount).toBe(0);
  });

  test('a host connects to a port of the guest', () => {
    const { device, driver } = setUp();
    driver.give(8);
    const { peer, hostPort } = dialled(device, driver);
    peer.send(Buffer.from('ping'));
    expect(driver.take()).toMatchObject([
      { op: OP.RW, payload: Buffer.from('ping'), guestPort: 52, hostPort },
    ]);
  });

  test('a host that ends both ways waits for the guest’s RST', () => {
    const { driver, peer, device, clock } = connected();
    driver.send(guest(OP.SHUTDOWN, { flags: 2 }));
    expect(peer.log).toEqual(['end']);
    peer.connection?.end();
    expect(driver.take()).toMatchObject([{ op: OP.SHUTDOWN, flags: BOTH }]);
    peer.connection?.close();
    expect(driver.take()).toEqual([]);
    expect(device.connectionCount).toBe(1);
    expect(clock.armed).toBe(true);
    driver.send(guest(OP.RST));
    expect(driver.take()).toEqual([]);
    expect(device.connectionCount).toBe(0);
    expect(clock.armed).toBe(false);
  });

  test('a host that ends first says that it sends no more, and later that it receives no more', () => {
    const { driver, peer } = connected();
    peer.connection?.end();
    expect(driver.take()).toMatchObject([{ op: OP.SHUTDOWN, flags: 2 }]);
    driver.send(guest(OP.RW, { payload: Buffer.from('still') }));
    expect(peer.received).toBe('still');
    driver.send(guest(OP.SHUTDOWN, { flags: 2 }));
    expect(driver.take()).toMatchObject([{ op: OP.SHUTDOWN, flags: BOTH }]);
    driver.send(guest(OP.RST));
    expect(peer.log).toEqual(['end', 'closed']);
  });

  test('5.10.6.5: a host that leaves says at once that it neither sends nor receives, and what crosses that is dropped', () => {
    const { driver, peer, device, clock } = connected();
    peer.connection?.leave();
    expect(driver.take()).toMatchObject([{ op: OP.SHUTDOWN, flags: BOTH }]);
    peer.connection?.close();
    driver.send(guest(OP.RW, { payload: Buffer.from('crosses it') }));
    expect(driver.take()).toEqual([]);
    expect(device.counters.violations).toBe(0);
    expect(peer.received).toBe('');
    driver.send(guest(OP.RST));
    expect(driver.take()).toEqual([]);
    expect(device.connectionCount).toBe(0);
    expect(clock.armed).toBe(false);
  });

  test('a host that has left: the guest’s own SHUTDOWN of both is answered by RST; data after its end is not dropped', () => {
    for (const flags of [BOTH, 2]) {
      const { driver, peer, device } = connected();
      peer.connection?.leave();
      peer.connection?.close();
      driver.take();
      driver.send(guest(OP.SHUTDOWN, { flags }));
      if (flags !== BOTH) driver.send(guest(OP.RW, { payload: Buffer.from('x') }));
      expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
      expect(device.counters.violations).toBe(flags === BOTH ? 0 : 1);
      expect(device.connectionCount).toBe(0);
    }
  });

  test('5.10.6.5: without the guest’s RST to a SHUTDOWN, one is sent after a while', () => {
    const { driver, peer, device, clock } = connected();
    driver.send(guest(OP.SHUTDOWN, { flags: 2 }));
    peer.connection?.end();
    peer.connection?.close();
    driver.take();
    clock.advance(ANSWER_MS - 1);
    expect(driver.take()).toEqual([]);
    clock.advance(1);
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
    expect(device.connectionCount).toBe(0);
  });

  test('a guest that never answers a REQUEST times out, and its late answer gets a RST', () => {
    const { device, driver, clock } = setUp();
    driver.give(4);
    const peer = new RecordingPeer();
    peer.connection = device.connect(52, peer);
    const [request] = driver.take();
    clock.advance(ANSWER_MS);
    expect(peer.log).toEqual(['timeout']);
    peer.connection?.close();
    expect(device.connectionCount).toBe(0);
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
    driver.send(guest(OP.RESPONSE, { guestPort: 52, hostPort: request?.hostPort ?? 0 }));
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
  });

  test('a request that the guest never saw is taken back without a word', () => {
    const { device, driver } = setUp();
    const peer = new RecordingPeer();
    peer.connection = device.connect(52, peer);
    peer.connection?.close();
    driver.give(2);
    expect(driver.take()).toEqual([]);
    expect(device.connectionCount).toBe(0);
  });

  test('a host that lets go of a live connection resets it', () => {
    const { driver, peer, device } = connected();
    peer.connection?.close();
    expect(driver.take()).toMatchObject([{ op: OP.RST, guestPort: 1000, hostPort: ECHO_PORT }]);
    expect(device.connectionCount).toBe(0);
  });

  test('bytes for a guest that receives no more are taken and dropped', () => {
    const { driver, peer } = connected();
    driver.send(guest(OP.SHUTDOWN, { flags: 1 }));
    peer.send(Buffer.alloc(1 << 20));
    expect(peer.unsent.length).toBe(0);
    expect(driver.take()).toEqual([]);
  });

  test('bytes that wait for room are let go when the guest receives no more', () => {
    const { driver, peer } = connected();
    driver.send(guest(OP.CREDIT_UPDATE, { bufAlloc: 10 }));
    peer.send(Buffer.alloc(100));
    expect(peer.unsent.length).toBe(90);
    driver.send(guest(OP.SHUTDOWN, { flags: 1, bufAlloc: 10 }));
    expect(peer.unsent.length).toBe(0);
  });

  test('a connection without a driver is refused', () => {
    const device = new Vsock({ host: { onRequest: () => undefined } });
    expect(device.connect(52, new RecordingPeer())).toBeUndefined();
  });

  test('a reset of the driver ends all connections, and nothing is written after it', async () => {
    const { driver, peer, device } = connected();
    peer.send(Buffer.alloc(300 * 1024));
    await driver.rig.driver.reset();
    expect(peer.log).toEqual(['reset']);
    const before = Buffer.from(driver.rig.memory.read(0, driver.rig.memory.sizeBytes));
    peer.send(Buffer.from('late'));
    peer.connection?.end();
    peer.connection?.close();
    expect(Buffer.compare(before, driver.rig.memory.read(0, driver.rig.memory.sizeBytes))).toBe(0);
    expect(device.connectionCount).toBe(0);
  });
});

describe('Vsock credit', () => {
  test('5.10.6.3 MUST: no more is sent than the guest has room for, and its counters wrap', () => {
    const { device, driver } = setUp();
    driver.give(16);
    const { peer, hostPort } = dialled(device, driver);
    const address = { guestPort: 52, hostPort };
    let fwdCnt = 0;
    // 2^32 bytes would take long: pretend that the guest's counter runs ahead where it does not matter.
    driver.send(guest(OP.CREDIT_UPDATE, { ...address, bufAlloc: 100, fwdCnt }));
    peer.send(Buffer.alloc(1000, 'x'));
    let got = 0;
    for (let round = 0; round < 12; round++) {
      const packets = driver.take();
      driver.give(packets.length);
      const bytes = packets.reduce((sum, { payload }) => sum + payload.length, 0);
      expect(bytes).toBeLessThanOrEqual(100);
      got += bytes;
      if (got === 1000) break;
      fwdCnt = (fwdCnt + bytes) >>> 0;
      driver.send(guest(OP.CREDIT_UPDATE, { ...address, bufAlloc: 100, fwdCnt }));
    }
    expect(got).toBe(1000);
  });

  test('a guest out of room is asked once how much it has', () => {
    const { driver, peer } = connected();
    driver.send(guest(OP.CREDIT_UPDATE, { bufAlloc: 10 }));
    peer.send(Buffer.alloc(100));
    peer.send(Buffer.alloc(100));
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RW, OP.CREDIT_REQUEST]);
  });

  test.each([
    ['that goes backwards', { bufAlloc: 100, fwdCnt: 0xffff_ff00 }],
    ['that runs ahead', { bufAlloc: 100, fwdCnt: 5000 }],
    ['of a buffer of none', { bufAlloc: 0, fwdCnt: 0 }],
  ])('a guest with a counter %s gets nothing, and harms nobody (hostile 45)', (_, credit) => {
    const { driver, peer } = connected();
    driver.send(guest(OP.CREDIT_UPDATE, credit));
    peer.send(Buffer.alloc(100));
    expect(driver.take().filter(({ op }) => op === OP.RW)).toEqual([]);
    driver.send(guest(OP.CREDIT_UPDATE));
    expect(driver.take().filter(({ op }) => op === OP.RW)).toHaveLength(1);
  });

  test('a guest that says it has 2^32 - 1 bytes gets what its buffers hold (hostile 45)', () => {
    const { driver, peer } = connected();
    driver.send(guest(OP.CREDIT_UPDATE, { bufAlloc: 0xffff_ffff }));
    peer.send(Buffer.alloc(1 << 20));
    expect(driver.take()).toHaveLength(7); // of 8, one had the RESPONSE
    expect(peer.unsent.length).toBe((1 << 20) - 7 * (4096 - 44));
  });

  test('a slow host: the guest is let send no more than the buffer, and told when half is free', () => {
    const { driver, peer } = connected();
    const half = BUF_ALLOC_BYTES / 2;
    driver.send(guest(OP.RW, { payload: Buffer.alloc(half) }));
    driver.send(guest(OP.RW, { payload: Buffer.alloc(half) }));
    expect(peer.received).toHaveLength(BUF_ALLOC_BYTES);
    peer.connection?.consumed(half - 1);
    expect(driver.take()).toEqual([]);
    peer.connection?.consumed(1);
    expect(driver.take()).toMatchObject([{ op: OP.CREDIT_UPDATE, fwdCnt: half }]);
    driver.send(guest(OP.RW, { payload: Buffer.alloc(half) }));
    expect(peer.received).toHaveLength(3 * half);
    driver.send(guest(OP.CREDIT_REQUEST));
    expect(driver.take()).toMatchObject([{ op: OP.CREDIT_UPDATE, fwdCnt: half }]);
    expect(peer.log).toEqual([]);
  });

  test('a guest that sends more than there is room for is reset (hostile 45)', () => {
    const { driver, peer, device } = connected();
    driver.send(guest(OP.RW, { payload: Buffer.alloc(BUF_ALLOC_BYTES) }));
    driver.send(guest(OP.RW, { payload: Buffer.alloc(1) }));
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
    expect(peer.log).toEqual(['reset']);
    expect(peer.received).toHaveLength(BUF_ALLOC_BYTES);
    expect(device.counters.violations).toBe(1);
  });

  test('a slow guest: data waits for receive buffers, in order, and senders take turns', () => {
    const { device, driver } = setUp();
    driver.give(2);
    const a = dialled(device, driver, 1);
    const b = dialled(device, driver, 2);
    driver.take();
    a.peer.send(Buffer.alloc(10_000, 'a'));
    b.peer.send(Buffer.alloc(10_000, 'b'));
    const order: string[] = [];
    for (let i = 0; i < 12; i++) {
      driver.give(1);
      for (const { payload } of driver.take()) order.push(String.fromCharCode(payload[0] ?? 0));
    }
    expect(order).toEqual(['a', 'b', 'a', 'b', 'a', 'b']);
  });

  test('a receive buffer with room for a header only gets a CREDIT_UPDATE; a smaller one comes back empty', () => {
    const { device, driver } = setUp();
    driver.give(1);
    const { peer } = dialled(device, driver);
    peer.send(Buffer.from('x'));
    driver.give(1, 44);
    expect(driver.take().map(({ op }) => op)).toEqual([OP.CREDIT_UPDATE]);
    driver.give(1, 43);
    expect(driver.rx.used()).toMatchObject([{ length: 0 }]);
    expect(device.counters.shortBuffers).toBe(1);
    driver.give(1, 45);
    expect(driver.take()).toMatchObject([{ op: OP.RW, payload: Buffer.from('x') }]);
  });
});

describe('Vsock answers', () => {
  test.each<[what: string, packet: Partial<GuestPacket> & { op: number }, answer: object[]]>([
    [
      'a request to a port that nobody serves',
      { op: OP.REQUEST, hostPort: 8 },
      [{ op: OP.RST, hostPort: 8, type: 1 }],
    ],
    ['data of no connection', { op: OP.RW, payload: Buffer.from('x') }, [{ op: OP.RST }]],
    ['a RST of no connection', { op: OP.RST }, []],
    ['5.10.6.4 MUST: an unknown type', { op: OP.REQUEST, type: 2 }, [{ op: OP.RST, type: 2 }]],
    ['another host’s CID', { op: OP.REQUEST, dstCid: 5n }, [{ op: OP.RST, srcCid: 5n }]],
    ['a forged source', { op: OP.REQUEST, srcCid: 4n }, []],
    ['upper bits in a source', { op: OP.REQUEST, srcCid: (1n << 32n) | 3n }, []],
    ['upper bits in a destination', { op: OP.REQUEST, dstCid: (1n << 32n) | 2n }, []],
    ['a length beyond its buffers', { op: OP.RW, len: 9, payload: Buffer.from('x') }, [{ op: OP.RST }]],
    ['a length of 4 GiB', { op: OP.REQUEST, len: 0xffff_ffff }, [{ op: OP.RST }]],
    ['an unknown operation', { op: 99 }, [{ op: OP.RST }]],
    ['operation 0', { op: 0 }, [{ op: OP.RST }]],
  ])('%s (hostile 45)', (_, packet, answer) => {
    const { driver, device } = setUp();
    driver.give(4).send(guest(packet.op, packet));
    expect(driver.take()).toMatchObject(answer);
    expect(driver.tx.used()).toHaveLength(1);
    expect(driver.rig.failures).toEqual([]);
    expect(device.connectionCount).toBe(0);
  });

  test.each<[what: string, packet: Partial<GuestPacket> & { op: number }]>([
    ['a second REQUEST', { op: OP.REQUEST }],
    ['a RESPONSE to nothing', { op: OP.RESPONSE }],
    ['an unknown operation', { op: 0x8000 }],
    ['a length beyond its buffers', { op: OP.RW, len: 100 }],
    ['a payload greater than any buffer', { op: OP.RW, payload: Buffer.alloc(BUF_ALLOC_BYTES + 1) }],
  ])('%s on a connection ends it by RST (hostile 45)', (_, packet) => {
    const { driver, peer, device } = connected();
    driver.send(guest(packet.op, packet));
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
    expect(peer.log).toEqual(['reset']);
    expect(device.counters.violations).toBe(1);
    expect(driver.rig.failures).toEqual([]);
  });

  test('data after the guest said that it sends no more ends the connection', () => {
    const { driver, peer } = connected();
    driver.send(guest(OP.SHUTDOWN, { flags: 2 }));
    driver.send(guest(OP.RW, { payload: Buffer.from('x') }));
    expect(peer.log).toEqual(['end', 'reset']);
  });

  test('packets shorter than a header come back, counted', () => {
    const { driver, device } = setUp();
    driver.give(1);
    driver.sendBytes(Buffer.alloc(43));
    driver.tx.kick();
    expect(driver.tx.used()).toEqual([{ head: 0, length: 0 }]);
    expect(device.counters.droppedPackets).toBe(1);
  });

  test('a driver that wants only what is not offered gets no streams', () => {
    const { driver } = setUp();
    driver.rig.driver.start({ features: (1n << 32n) | (1n << 2n) });
    const alone = new VsockDriverOn(driver);
    alone.request();
    expect(alone.answer()).toBe(OP.RST);
  });

  test('a driver that accepts no feature gets streams (5.10.3.2 SHOULD)', () => {
    const { driver, peers } = setUp();
    driver.rig.driver.start({ features: 1n << 32n });
    const alone = new VsockDriverOn(driver);
    alone.request();
    expect(alone.answer()).toBe(OP.RESPONSE);
    expect(peers).toHaveLength(1);
  });

  test('data before the host has accepted ends the attempt', () => {
    const { driver, peers, device } = setUp({ accept: false });
    driver.give(4).send(guest(OP.REQUEST));
    expect(driver.take()).toEqual([]);
    driver.send(guest(OP.RW, { payload: Buffer.from('x') }));
    expect(driver.take().map(({ op }) => op)).toEqual([OP.RST]);
    expect(peers[0]?.log).toEqual(['reset']);
    peers[0]?.connection?.accept();
    peers[0]?.connection?.close();
    expect(driver.take()).toEqual([]);
    expect(device.connectionCount).toBe(0);
  });
});

/** The rings of a driver that was started again, bare. */
class VsockDriverOn {
  readonly #driver: VsockDriver;

  constructor(driver: VsockDriver) {
    this.#driver = driver;
  }

  request(): void {
    const { rig } = this.#driver;
    rig.driver.queue(0).add([], [64]);
    const header = Buffer.alloc(44);
    header.writeBigUInt64LE(3n, 0);
    header.writeBigUInt64LE(2n, 8);
    header.writeUInt32LE(ECHO_PORT, 20);
    header.writeUInt16LE(1, 28);
    header.writeUInt16LE(OP.REQUEST, 30);
    rig.driver.queue(1).add([header], []);
    rig.driver.queue(1).kick();
  }

  answer(): number {
    const { rig } = this.#driver;
    const queue = rig.driver.queue(0);
    expect(queue.used()).toHaveLength(1);
    return rig.memory.readU16(rig.memory.readU32(queue.descAddr) + 30);
  }
}

describe('Vsock bounds', () => {
  test('thousands of connections work, one more than the most is refused, and room comes back (hostile 45)', () => {
    const { driver, peers, device } = setUp();
    const ops: number[] = [];
    for (let i = 0; i <= MAX_CONNECTIONS; i++) {
      if (i % 64 === 0) driver.give(64);
      driver.send(guest(OP.REQUEST, { guestPort: i }));
      driver.rig.runDeferred();
      ops.push(...driver.take().map(({ op }) => op));
    }
    expect(ops.filter((op) => op === OP.RESPONSE)).toHaveLength(MAX_CONNECTIONS);
    expect(ops.at(-1)).toBe(OP.RST);
    expect(device.connectionCount).toBe(MAX_CONNECTIONS);
    expect(device.connect(52, new RecordingPeer())).toBeUndefined();
    driver.give(1).send(guest(OP.RW, { guestPort: 2000, payload: Buffer.from('2000') }));
    expect(peers[2000]?.received).toBe('2000');
    driver.send(guest(OP.RST, { guestPort: 17 }));
    expect(device.connectionCount).toBe(MAX_CONNECTIONS); // the host has not let go
    peers[17]?.connection?.close();
    driver.send(guest(OP.REQUEST, { guestPort: 17 }));
    expect(peers).toHaveLength(MAX_CONNECTIONS + 1);
    void driver.rig.driver.reset();
    for (const peer of peers) peer.connection?.close();
    expect(device.connectionCount).toBe(0);
  });

  test('5.10.6.1 MUST: packets are taken without receive buffers, until a named bound; then they wait in the guest', () => {
    const { driver } = setUp();
    let sent = 0;
    let returned = 0;
    for (let i = 0; i < MAX_RESETS + 100; i++) {
      driver.queueUp(guest(OP.REQUEST, { guestPort: i, hostPort: 9 }));
      sent++;
      driver.tx.kick();
      returned += driver.tx.used().length;
      if (sent - returned >= driver.tx.size) break;
    }
    expect(returned).toBe(MAX_RESETS);
    // With buffers, all are answered, in order.
    const ports: number[] = [];
    while (ports.length < sent) {
      driver.give(Math.min(64, sent - ports.length));
      driver.rig.runDeferred();
      ports.push(...driver.take().map(({ guestPort }) => guestPort));
    }
    returned += driver.tx.used().length;
    expect(returned).toBe(sent);
    expect(ports).toEqual(Array.from({ length: sent }, (_, i) => i));
  });

  test('a storm of RST and requests leaves nothing behind', () => {
    const { driver, peers, device } = setUp();
    for (let i = 0; i < 3000; i++) {
      if (i % 64 === 0) driver.give(64);
      driver.send(guest(OP.REQUEST));
      driver.send(guest(OP.RST));
      driver.rig.runDeferred();
      driver.take();
      peers[i]?.connection?.close();
    }
    expect(device.connectionCount).toBe(0);
    expect(driver.rig.failures).toEqual([]);
  });
});

describe('Vsock.save() and restore()', () => {
  async function saved(made: { driver: VsockDriver }) {
    const { core, transport } = made.driver.rig;
    await core.pause();
    const state = JSON.parse(JSON.stringify(transport.save()));
    core.resume();
    return state;
  }

  test('5.10.6.7: a machine that goes on is told to forget its connections, and they are gone', async () => {
    const made = connected();
    made.driver.giveEvents(4);
    made.peer.send(Buffer.alloc(100_000));
    const state = await saved(made);
    expect(state.device).toEqual({ version: 1, cid: GUEST_CID, nextPort: 0 });
    made.driver.take();
    const again = setUp();
    const { memory } = made.driver.rig;
    again.driver.rig.memory.write(0, memory.read(0, memory.sizeBytes));
    const fresh = new Vsock({ host: { onRequest: () => undefined } });
    const rig = new Rig(fresh, { regions: [{ addr: 0, bytes: memory.read(0, memory.sizeBytes) }] });
    rig.transport.restore(state);
    const before = rig.interrupts;
    expect(fresh.connectionCount).toBe(0);
    const { events } = made.driver;
    const usedIdx = rig.memory.readU16(events.usedAddr + 2);
    rig.core.resume();
    expect(rig.interrupts).toBeGreaterThan(before);
    expect(rig.memory.readU16(events.usedAddr + 2)).toBe((usedIdx + 1) & 0xffff);
    // Once is enough.
    await rig.core.pause();
    rig.core.resume();
    expect(rig.memory.readU16(events.usedAddr + 2)).toBe((usedIdx + 1) & 0xffff);
    // The machine that was saved goes on with what it had.
    expect(made.peer.log).toEqual([]);
    expect(made.device.connectionCount).toBe(1);
  });

  test('a copy goes on with the ports of the host’s ends, and refuses a state without sense', () => {
    const made = new Vsock({ host: { onRequest: () => undefined } });
    made.restore({ version: 1, cid: 5, nextPort: 7 } as DeviceState);
    expect(made.save()).toEqual({ version: 1, cid: 5, nextPort: 7 });
    for (const nextPort of [-1, 0.5, 2 ** 30, '1', null])
      expect(() => made.restore({ version: 1, cid: 5, nextPort } as DeviceState)).toThrow(
        'vsock: the next port',
      );
    made.restore({ version: 1, cid: 5 } as DeviceState); // of an earlier version
    expect(made.save()).toMatchObject({ nextPort: 0 });
  });

  test('between drain and resume no guest memory is touched, and what waited then goes out', async () => {
    const { driver, peer } = connected();
    const { memory, core } = driver.rig;
    await core.pause();
    const before = Buffer.from(memory.read(0, memory.sizeBytes));
    peer.send(Buffer.from('later'));
    peer.connection?.end();
    expect(Buffer.compare(before, memory.read(0, memory.sizeBytes))).toBe(0);
    core.resume();
    const packets = driver.take();
    expect(packets.some(({ payload }) => payload.toString() === 'later')).toBe(true);
  });

  test('renumber() gives the guest a new CID, resets its connections and tells it', () => {
    const { driver, peer, device } = connected();
    const events = driver.giveEvents(2);
    expect(driver.rig.driver.config(0, 8)).toBe(GUEST_CID);
    device.renumber(77);
    expect(driver.rig.driver.config(0, 8)).toBe(77);
    expect(events()).toEqual([0]);
    expect(peer.log).toEqual(['reset']);
    driver.send(guest(OP.REQUEST, { srcCid: 3n }));
    expect(driver.take()).toEqual([]);
    driver.send(guest(OP.REQUEST, { srcCid: 77n }));
    expect(driver.take()).toMatchObject([{ op: OP.RESPONSE, dstCid: 77n }]);
  });

  test('an event that has no buffer yet waits for one', () => {
    const { driver, device } = setUp();
    device.renumber(4);
    expect(driver.giveEvents(1)()).toEqual([0]);
    expect(driver.giveEvents(1)()).toEqual([]);
  });

  test.each([true, false])(
    'a connection waits until the driver gives the buffer of a transport reset back (EVENT_IDX %s)',
    (eventIdx) => {
      const { driver, device, clock } = setUp({ eventIdx });
      const { events } = driver.give(8);
      driver.giveEvents(8);
      device.renumber(77);
      const [peer, gone] = [new RecordingPeer(), new RecordingPeer()];
      device.connect(5, peer);
      device.connect(6, gone)?.close();
      clock.advance(PATIENCE_MS - 1);
      expect(driver.take()).toEqual([]);
      // virtio 1.3, 2.7.10: the driver is asked to kick at the ninth buffer, though seven wait.
      if (eventIdx) expect(driver.rig.memory.readU16(events.usedAddr + 4 + 8 * events.size)).toBe(8);
      driver.giveEvents(1);
      expect(driver.take()).toMatchObject([{ op: OP.REQUEST, guestPort: 5, dstCid: 77n }]);
      device.connect(7, new RecordingPeer());
      expect(driver.take()).toMatchObject([{ op: OP.REQUEST, guestPort: 7 }]);
    },
  );

  test('the driver’s time to take a transport reset in begins when the machine goes on', async () => {
    const { driver, device, clock } = setUp();
    const events = driver.giveEvents(1);
    await driver.rig.core.pause();
    device.renumber(77);
    expect([clock.armed, events()]).toEqual([false, []]);
    driver.rig.core.resume();
    expect([clock.armed, events()]).toEqual([true, [0]]);
  });

  test.each([0, 1])(
    'a driver that gives %i event buffers, and none back, holds up connections for a moment only',
    (given) => {
      const { driver, device, clock } = setUp();
      driver.give(8);
      if (given > 0) driver.giveEvents(given);
      device.renumber(77);
      device.connect(5, new RecordingPeer());
      driver.events.kick();
      expect(driver.take()).toEqual([]);
      clock.advance(PATIENCE_MS);
      expect(driver.take()).toMatchObject([{ op: OP.REQUEST, guestPort: 5 }]);
      // It is told all the same.
      if (given === 0) expect(driver.giveEvents(1)()).toEqual([0]);
    },
  );

  test('a reset of the device ends the wait', () => {
    const { driver, device, clock } = setUp();
    driver.giveEvents(1);
    device.renumber(77);
    const peer = new RecordingPeer();
    device.connect(5, peer);
    device.reset();
    expect(peer.log).toEqual(['reset']);
    expect(clock.armed).toBe(false);
  });

  test.each([
    ['no CID', {}],
    ['the host’s CID', { cid: 2 }],
    ['a reserved CID', { cid: 0xffff_ffff }],
    ['text', { cid: '3' }],
    ['a fraction', { cid: 3.5 }],
    ['another version', { version: 2, cid: 3 }],
  ])('restore() refuses %s (hostile 50)', (_, state) => {
    const device = new Vsock({ host: { onRequest: () => undefined } });
    expect(() => device.restore({ version: 1, ...state })).toThrow(TsvmError);
  });
});

test.each([
  ['', '--vsock needs a path'],
  [',cid=3', '--vsock needs a path'],
  ['/tmp/a,cid=2', "--vsock /tmp/a: cid '2' is not a whole number from 3 to 4294967294"],
  ['/tmp/a,cid=0x3', "--vsock /tmp/a: cid '0x3' is not a whole number from 3 to 4294967294"],
  ['/tmp/a,cid=', "--vsock /tmp/a: cid '' is not a whole number from 3 to 4294967294"],
  ['/tmp/a,port=3', "--vsock /tmp/a: unknown option 'port=3'"],
])('vsockKind.fromCli(%j) names what is wrong', (text, message) => {
  expect(() => vsockKind.fromCli(text)).toThrow(message);
  try {
    vsockKind.fromCli(text);
  } catch (error) {
    expect((error as TsvmError).hint).toContain('for example: --vsock /tmp/vm.sock,cid=3');
  }
});

test('vsockKind.fromCli() reads path and CID', () => {
  expect(vsockKind.fromCli('/tmp/a').config).toEqual({ path: '/tmp/a', cid: 3 });
  expect(vsockKind.fromCli('/tmp/a,cid=4294967294').config).toEqual({ path: '/tmp/a', cid: 0xffff_fffe });
});
