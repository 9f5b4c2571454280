import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  finishHeader,
  guestOffloads,
  hostOffloads,
  isAllowed,
  isWelcome,
  NO_OFFLOADS,
  OFFLOAD_FEATURES,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
} from '../../../src/devices/net/header.js';

const NEEDS_CSUM = 1;
const DATA_VALID = 2;
const [NONE, TCPV4, UDP, TCPV6, ECN] = [0, 1, 3, 4, 0x80];
const header = (flags: number, gso: number): Uint8Array =>
  Uint8Array.of(flags, gso, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0);

test('nothing is negotiated without what it needs (virtio 1.3, 5.1.3.1)', () => {
  expect(hostOffloads(0n)).toEqual(NO_OFFLOADS);
  expect(hostOffloads(VIRTIO_NET_F_HOST_TSO4)).toEqual(NO_OFFLOADS);
  expect(guestOffloads(VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_ECN)).toEqual(NO_OFFLOADS);
  expect(hostOffloads(VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_ECN)).toEqual({ ...NO_OFFLOADS, checksum: true });
  const all = { checksum: true, tcp4: true, tcp6: true, ecn: true };
  expect([hostOffloads(OFFLOAD_FEATURES), guestOffloads(OFFLOAD_FEATURES)]).toEqual([all, all]);
});

describe('isAllowed()', () => {
  const checksums = { ...NO_OFFLOADS, checksum: true };
  const tcp4 = { ...checksums, tcp4: true };
  test.each([
    ['a whole frame', 0, NONE, NO_OFFLOADS, true],
    ['a checksum that was not negotiated', NEEDS_CSUM, NONE, NO_OFFLOADS, false],
    ['a checksum', NEEDS_CSUM, NONE, checksums, true],
    ['a flag that only a device sets', DATA_VALID, NONE, checksums, false],
    ['segments that were not negotiated', NEEDS_CSUM, TCPV4, checksums, false],
    ['segments', NEEDS_CSUM, TCPV4, tcp4, true],
    ['segments without a checksum', 0, TCPV4, tcp4, false],
    ['segments of the other version', NEEDS_CSUM, TCPV6, tcp4, false],
    ['ECN that was not negotiated', NEEDS_CSUM, TCPV4 | ECN, tcp4, false],
    ['ECN', NEEDS_CSUM, TCPV4 | ECN, { ...tcp4, ecn: true }, true],
    ['ECN of no segments', NEEDS_CSUM, ECN, { ...tcp4, ecn: true }, false],
    ['UDP, which nobody offers', NEEDS_CSUM, UDP, tcp4, false],
  ])('%s', (_what, flags, gso, offloads, allowed) => {
    expect(isAllowed(header(flags, gso), offloads)).toBe(allowed);
  });

  test('without offloads only whole frames, whatever else is in the header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 12, maxLength: 12 }), (bytes) => {
        expect(isAllowed(bytes, NO_OFFLOADS)).toBe(bytes[0] === 0 && bytes[1] === 0);
      }),
    );
  });
});

test('finishHeader() says how many buffers, and nothing of checksums to who knows none', () => {
  const bytes = header(DATA_VALID, NONE);
  finishHeader(bytes, 0x0102, NO_OFFLOADS);
  expect([bytes[0], bytes[10], bytes[11]]).toEqual([0, 2, 1]);
  const valid = header(DATA_VALID, NONE);
  finishHeader(valid, 1, { ...NO_OFFLOADS, checksum: true });
  expect(valid[0]).toBe(DATA_VALID);
});

test('isWelcome() refuses what waited since a driver that took more', () => {
  const checksums = { ...NO_OFFLOADS, checksum: true };
  expect([
    isWelcome(header(0, NONE), NO_OFFLOADS),
    isWelcome(header(NEEDS_CSUM, NONE), NO_OFFLOADS),
    isWelcome(header(NEEDS_CSUM, NONE), checksums),
    isWelcome(header(NEEDS_CSUM, TCPV4), checksums),
    isWelcome(header(NEEDS_CSUM, TCPV4), { ...checksums, tcp4: true }),
  ]).toEqual([true, false, true, false, true]);
});
