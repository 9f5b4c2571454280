import { beforeEach, expect, test } from 'vitest';
import { Pmem } from '../../../src/devices/pmem.js';
import { Rig } from '../../support/mock-driver.js';

const ADDR = 2 ** 32;
const SIZE_BYTES = 6 * 2 ** 20;

const device = (addr = ADDR): Pmem => new Pmem({ addr, sizeBytes: SIZE_BYTES, close: async () => {} });

const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

let rig: Rig;
let pmem: Pmem;

beforeEach(() => {
  pmem = device();
  rig = new Rig(pmem);
});

test('Pmem says where it is and how large', () => {
  expect(rig.driver.config(0, 4)).toBe(0);
  expect(rig.driver.config(4, 4)).toBe(1);
  expect(rig.driver.config(8, 4)).toBe(SIZE_BYTES);
  expect(rig.driver.config(12, 4)).toBe(0);
});

test('Pmem answers a flush, and says no to what it does not know', () => {
  const queue = rig.driver.start().queue(0);
  const flush = queue.add([word(0)], [4]);
  const unknown = queue.add([word(1)], [4]);
  const short = queue.add([Uint8Array.of(0)], [8]);
  queue.kick();
  expect(queue.used()).toEqual([flush, unknown, short].map(({ head }) => ({ head, length: 4 })));
  const answer = (request: typeof flush): number => Buffer.from(queue.written(request)).readInt32LE();
  expect(answer(flush)).toBe(0);
  expect(answer(unknown)).toBe(-1);
  expect(answer(short)).toBe(-1);
  expect(pmem.counters).toEqual({ flushes: 1, badRequests: 2 });
  expect(rig.interrupts).toBe(1);
});

test('Pmem gives back a chain that it cannot answer', () => {
  const queue = rig.driver.start().queue(0);
  queue.add([word(0)], [3]);
  queue.kick();
  expect(queue.used()).toEqual([{ head: 0, length: 0 }]);
  expect(pmem.counters).toEqual({ flushes: 0, badRequests: 1 });
});

test('Pmem is not restored elsewhere than the guest believes', () => {
  const state = pmem.save();
  expect(() => device().restore(state)).not.toThrow();
  expect(() => device(ADDR * 2).restore(state)).toThrow('not 6291456 at 8589934592');
});
