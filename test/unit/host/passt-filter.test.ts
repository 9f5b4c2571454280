import { describe, expect, test } from 'vitest';
import { FrameBatcher } from '../../../src/host/net/frame-stream.js';
import { mayLeave } from '../../../src/host/net/passt-filter.js';
import { tcpSyn } from '../../support/tcp-syn.js';
import { frameSource } from '../../support/test-cable.js';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);

const ipv4 = (target: string, source = '10.0.2.15'): Buffer => {
  const frame = tcpSyn(MAC, 40_000, target, 80);
  frame.set(source.split('.').map(Number), 26);
  return frame;
};

/** @param source - 16 bytes in hexadecimal, as `target` */
function ipv6(target: string, source = 'fe80000000000000000000000000000f'): Buffer {
  const frame = Buffer.alloc(60);
  frame.writeUInt16BE(0x86dd, 12);
  frame.set(Buffer.from(source, 'hex'), 22);
  frame.set(Buffer.from(target, 'hex'), 38);
  return frame;
}

const UNSPECIFIED = '0'.repeat(32);
const LOOPBACK = `${'0'.repeat(31)}1`;

describe('mayLeave()', () => {
  test.each(['127.0.0.1', '127.255.255.254', '127.0.0.53', '0.0.0.0', '0.1.2.3'])('refuses %s', (target) => {
    expect(mayLeave(ipv4(target))).toBe(false);
  });

  test.each(['10.0.2.2', '192.0.2.1', '169.254.169.254', '128.0.0.1', '126.255.255.255', '255.255.255.255'])(
    'takes %s',
    (target) => expect(mayLeave(ipv4(target))).toBe(true),
  );

  test('refuses what says that it is from the loopback, and takes who asks for an address', () => {
    expect(mayLeave(ipv4('192.0.2.1', '127.0.0.1'))).toBe(false);
    expect(mayLeave(ipv4('255.255.255.255', '0.0.0.0'))).toBe(true);
    expect(mayLeave(ipv6('20010db8000000000000000000000001', LOOPBACK))).toBe(false);
    expect(mayLeave(ipv6('ff0200000000000000000001ff00000f', UNSPECIFIED))).toBe(true);
  });

  test.each([
    ['::1', LOOPBACK],
    ['::', UNSPECIFIED],
    ['::ffff:127.0.0.1', '00000000000000000000ffff7f000001'],
    ['::127.0.0.1', '0000000000000000000000007f000001'],
  ])('refuses %s', (_, target) => {
    expect(mayLeave(ipv6(target))).toBe(false);
  });

  test('takes other addresses of IPv6, and what is no IP', () => {
    expect(mayLeave(ipv6('20010db8000000000000000000000001'))).toBe(true);
    expect(mayLeave(ipv6('fe800000000000000000000000000001'))).toBe(true);
    const arp = Buffer.alloc(42);
    arp.writeUInt16BE(0x0806, 12);
    expect(mayLeave(arp)).toBe(true);
  });

  test('refuses every fragment of a datagram, and takes what may not be cut', () => {
    for (const [flagsAndOffset, taken] of [
      [0x2000, false], // the first
      [0x20b9, false],
      [0x0172, false], // the last
      [0x4000, true], // DF
      [0, true],
    ] as const) {
      const frame = ipv4('192.0.2.1');
      frame.writeUInt16BE(flagsAndOffset, 20);
      expect(mayLeave(frame)).toBe(taken);
    }
    const frame = ipv6('20010db8000000000000000000000001');
    frame[20] = 44;
    expect(mayLeave(frame)).toBe(false);
    frame[20] = 17;
    expect(mayLeave(frame)).toBe(true);
  });

  test('refuses a packet whose addresses are cut off', () => {
    expect(mayLeave(ipv4('192.0.2.1').subarray(0, 33))).toBe(false);
    expect(mayLeave(ipv6('20010db8000000000000000000000001').subarray(0, 53))).toBe(false);
  });
});

test('FrameBatcher drops what its filter refuses, and goes on with the next', () => {
  const written: Buffer[] = [];
  const batcher = new FrameBatcher(
    (bytes, done) => {
      written.push(Buffer.from(bytes));
      done();
    },
    () => {},
    mayLeave,
  );
  batcher.add(frameSource(ipv4('127.0.0.1')));
  batcher.flush();
  expect(written).toEqual([]);
  for (const target of ['192.0.2.1', '127.0.0.1', '192.0.2.2']) batcher.add(frameSource(ipv4(target)));
  batcher.flush();
  const frames = ['192.0.2.1', '192.0.2.2'].map((target) => ipv4(target));
  const length = Buffer.from([0, 0, 0, frames[0]?.length ?? 0]);
  expect(Buffer.concat(written)).toEqual(Buffer.concat(frames.flatMap((frame) => [length, frame])));
});
