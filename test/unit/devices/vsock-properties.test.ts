/** Properties of virtio-vsock: any sequence of packets, buffers and calls; and no byte lost, repeated or out of order. */
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import type { VsockConnection } from '../../../src/devices/backends/vsock.js';
import { BUF_ALLOC_BYTES } from '../../../src/devices/backends/vsock.js';
import { Credit } from '../../../src/devices/vsock/credit.js';
import { Vsock } from '../../../src/devices/vsock/vsock.js';
import { budget, patience } from '../../support/fuzz.js';
import { Rig } from '../../support/mock-driver.js';
import { BUFFER_BYTES, GUEST_CID, OP, RecordingPeer, VsockDriver } from '../../support/vsock-driver.js';

const SEED = 20261125;
vi.setConfig({ testTimeout: patience(60_000) });

function setUp() {
  const peers: RecordingPeer[] = [];
  const device = new Vsock({
    cid: GUEST_CID,
    clock: { nowMs: () => 0, after: () => () => {} },
    host: {
      onRequest(connection: VsockConnection) {
        if (connection.hostPort > 2) return undefined;
        const peer = new RecordingPeer();
        peer.connection = connection;
        peers.push(peer);
        if (connection.hostPort === 1) connection.accept();
        return peer;
      },
    },
  });
  return { device, peers, driver: new VsockDriver(new Rig(device)) };
}

const edge = fc.oneof(
  fc.constantFrom(0, 1, 44, 100, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('packet' as const),
      op: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 7 }) }, fc.constantFrom(0, 8, 0xffff)),
      guestPort: fc.nat(3),
      // A port of the host's, or one of the connections that the host asked for.
      hostPort: fc.constantFrom(1, 1, 2, 3, 2 ** 30, 2 ** 30 + 1),
      flags: fc.nat(7),
      bufAlloc: edge,
      fwdCnt: edge,
      length: fc.nat(300),
      lie: fc.option(edge, { freq: 10 }),
      type: fc.oneof({ weight: 20, arbitrary: fc.constant(1) }, fc.constantFrom(0, 2)),
      srcCid: fc.oneof({ weight: 20, arbitrary: fc.constant(3n) }, fc.constantFrom(2n, 1n << 32n)),
      dstCid: fc.oneof({ weight: 20, arbitrary: fc.constant(2n) }, fc.constantFrom(3n, 1n << 63n)),
    }),
  },
  fc.record({ kind: fc.constant('bytes' as const), bytes: fc.uint8Array({ maxLength: 60 }) }),
  fc.record({
    kind: fc.constant('room' as const),
    length: fc.constantFrom(0, 43, 44, 45, 200, BUFFER_BYTES),
  }),
  fc.record({ kind: fc.constant('dial' as const), port: fc.nat(3) }),
  fc.record({
    kind: fc.constant('peer' as const),
    index: fc.nat(20),
    call: fc.constantFrom('send', 'end', 'leave', 'close', 'accept', 'consume'),
    length: fc.nat(6000),
  }),
  fc.record({ kind: fc.constant('pause' as const) }),
  fc.record({ kind: fc.constant('renumber' as const) }),
);

test('Vsock survives any sequence of packets and calls, returns every chain, and forgets nobody', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 80 }), async (actions) => {
      const { device, peers, driver } = setUp();
      const consumed = new Map<RecordingPeer, number>();
      let given = 0;
      let sent = 0;
      for (const one of actions) {
        if (one.kind === 'packet') {
          const { kind: _, length, lie, ...packet } = one;
          driver.send({ ...packet, payload: Buffer.alloc(length), ...(lie === null ? {} : { len: lie }) });
          sent++;
        } else if (one.kind === 'bytes') {
          driver.sendBytes(one.bytes);
          driver.tx.kick();
          sent++;
        } else if (one.kind === 'room' && given < 100) {
          driver.give(1, one.length);
          given++;
        } else if (one.kind === 'dial') {
          const peer = new RecordingPeer();
          peer.connection = device.connect(one.port, peer);
          if (peer.connection !== undefined) peers.push(peer);
        } else if (one.kind === 'peer') {
          const peer = peers[one.index % Math.max(peers.length, 1)];
          if (peer === undefined) continue;
          if (one.call === 'send') peer.send(Buffer.alloc(one.length));
          if (one.call === 'end') peer.connection?.end();
          if (one.call === 'leave') peer.connection?.leave();
          if (one.call === 'close') peer.connection?.close();
          if (one.call === 'accept') peer.connection?.accept();
          if (one.call === 'consume') {
            const done = consumed.get(peer) ?? 0;
            const count = Math.min(one.length, peer.received.length - done);
            peer.connection?.consumed(count);
            consumed.set(peer, done + count);
          }
        } else if (one.kind === 'pause') {
          const { core, transport } = driver.rig;
          await core.pause();
          JSON.stringify(transport.save());
          core.resume();
        } else if (one.kind === 'renumber') {
          device.renumber(GUEST_CID);
        }
        driver.rig.runDeferred();
        for (const peer of peers) {
          const waiting = peer.received.length - (consumed.get(peer) ?? 0);
          const ends = peer.log.filter((entry) => entry !== 'open' && entry !== 'end');
          // A call of expect() for each peer after each step takes longer than all the rest.
          if (waiting > BUF_ALLOC_BYTES) throw new Error(`${waiting} bytes wait at a peer`);
          if (ends.length > 1) throw new Error(`a connection ended more than once: ${ends}`);
        }
      }
      expect(driver.tx.used()).toHaveLength(sent);
      expect(driver.rig.failures).toEqual([]);
      await driver.rig.driver.reset();
      for (const peer of peers) peer.connection?.close();
      expect(device.connectionCount).toBe(0);
    }),
    budget(400, SEED),
  );
});

/** Bytes `from` to `from + count` of a stream that repeats itself at no power of two. */
const PERIOD = Uint8Array.from({ length: 251 }, (_, i) => i);
const STREAM = Buffer.alloc(251 + 2 * 1024 * 1024, PERIOD);
const pattern = (from: number, count: number): Buffer => STREAM.subarray(from % 251, (from % 251) + count);

/** Operations of packets to the guest while a connection lasts. */
const OF_A_CONNECTION = new Set<number>([OP.RESPONSE, OP.RW, OP.CREDIT_UPDATE, OP.CREDIT_REQUEST]);

test('Vsock moves bytes both ways in order, at any pace of either side, in buffers of one descriptor or two', () => {
  const step = fc.record({
    room: fc.nat(4),
    bufferBytes: fc.constantFrom(45, 300, BUFFER_BYTES),
    hostSends: fc.nat(9000),
    hostReads: fc.nat(40_000),
    guestSends: fc.nat(30_000),
    guestReads: fc.nat(9000),
    guestSpeaks: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 2000, max: 70_000 }),
      // Linux gives each buffer as one descriptor, and from 6.17 on as several, wherever they are cut.
      fc.oneof(fc.constant(0), fc.constantFrom(1, 43, 44, 45), fc.integer({ min: 46, max: 40_000 })),
      (steps, guestBuffer, cutBytes) => {
        const { driver, peers } = setUp();
        driver.cutBytes = cutBytes;
        const address = { guestPort: 9, hostPort: 1 };
        driver.give(1).send({ op: OP.REQUEST, ...address, bufAlloc: guestBuffer, fwdCnt: 0 });
        const peer = peers[0] as RecordingPeer;
        let [room, hostSent, guestSent, guestGot, guestRead, hostRead, hostFwd] = [0, 0, 0, 0, 0, 0, 0];
        const credit = () => ({ ...address, bufAlloc: guestBuffer, fwdCnt: guestRead });
        const collect = (): void => {
          for (const packet of driver.take()) {
            room--;
            if (!OF_A_CONNECTION.has(packet.op)) throw new Error(`a packet with operation ${packet.op}`);
            hostFwd = packet.fwdCnt;
            if (packet.op === OP.CREDIT_REQUEST) driver.send({ op: OP.CREDIT_UPDATE, ...credit() });
            if (!packet.payload.equals(pattern(guestGot, packet.payload.length)))
              throw new Error(`other bytes than were sent, from ${guestGot} on`);
            guestGot += packet.payload.length;
            if (guestGot - guestRead > guestBuffer) throw new Error('more bytes than the guest has room for');
          }
        };
        const guestSends = (wanted: number): void => {
          const count = Math.min(wanted, BUF_ALLOC_BYTES - (guestSent - hostFwd));
          if (count <= 0) return;
          driver.send({ op: OP.RW, ...credit(), payload: pattern(guestSent, count) });
          guestSent += count;
        };
        const hostReads = (wanted: number): void => {
          const count = Math.min(wanted, peer.received.length - hostRead);
          hostRead += count;
          peer.connection?.consumed(count);
        };
        const give = (count: number, length: number): void => {
          const more = Math.min(count, 64 - room);
          if (more <= 0) return;
          room += more;
          driver.give(more, length);
        };
        collect();
        room = 0;
        for (const one of steps) {
          give(one.room, one.bufferBytes);
          peer.send(pattern(hostSent, one.hostSends));
          hostSent += one.hostSends;
          guestSends(one.guestSends);
          collect();
          hostReads(one.hostReads);
          guestRead = Math.min(guestGot, guestRead + one.guestReads);
          if (one.guestSpeaks) driver.send({ op: OP.CREDIT_UPDATE, ...credit() });
          driver.rig.runDeferred();
          collect();
        }
        // Then both sides make haste, and everything arrives.
        for (let i = 0; i < 100_000 && (guestGot < hostSent || peer.received.length < guestSent); i++) {
          give(8, BUFFER_BYTES);
          driver.rig.runDeferred();
          collect();
          guestRead = guestGot;
          driver.send({ op: OP.CREDIT_UPDATE, ...credit() });
        }
        expect(guestGot).toBe(hostSent);
        expect(Buffer.from(peer.received, 'latin1').equals(pattern(0, guestSent))).toBe(true);
        // The guest is never left without news of room, once the host has read all.
        hostReads(Number.POSITIVE_INFINITY);
        give(2, BUFFER_BYTES);
        collect();
        expect(BUF_ALLOC_BYTES - (guestSent - hostFwd)).toBeGreaterThan(0);
        expect(peer.log).toEqual([]);
      },
    ),
    budget(120, SEED),
  );
});

test('Credit counts right while its counters wrap at 2^32', () => {
  const moves = fc.array(fc.integer({ min: 1, max: 0x3fff_ffff }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(moves, fc.integer({ min: 1, max: 0xffff_ffff }), (counts, bufAlloc) => {
      const credit = new Credit();
      let [sent, read] = [0n, 0n];
      for (const count of counts) {
        credit.update(bufAlloc, Number(read & 0xffff_ffffn));
        const some = Math.min(count, credit.sendable);
        credit.sent(some);
        sent += BigInt(some);
        expect(BigInt(credit.sendable)).toBe(BigInt(bufAlloc) - (sent - read));
        read += (sent - read) / 2n;
      }
    }),
    { seed: SEED },
  );
  const credit = new Credit();
  let total = 0;
  for (let i = 0; i < 70_000; i++) {
    if (!credit.receive(BUF_ALLOC_BYTES)) throw new Error(`refused in round ${i}`);
    if (i === 69_999) expect(credit.receive(1)).toBe(false);
    credit.consume(BUF_ALLOC_BYTES);
    total += BUF_ALLOC_BYTES;
  }
  expect(credit.announce()).toBe(total % 2 ** 32);
  expect(total).toBeGreaterThan(2 ** 32);
});
