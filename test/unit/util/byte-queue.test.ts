import { expect, test } from 'vitest';
import { ByteQueue } from '../../../src/util/byte-queue.js';

test('ByteQueue keeps order across its end and takes no more than it holds', () => {
  const queue = new ByteQueue(4);
  expect(queue.push(Uint8Array.of(1, 2, 3))).toBe(3);
  expect(queue.shift()).toBe(1);
  expect(queue.push(Uint8Array.of(4, 5, 6))).toBe(2);
  expect(queue.toArray()).toEqual([2, 3, 4, 5]);
  const out = new Uint8Array(3);
  expect(queue.shiftInto(out)).toBe(3);
  expect([...out]).toEqual([2, 3, 4]);
  expect(queue.shiftInto(out)).toBe(1);
  expect(queue.shift()).toBeUndefined();
  queue.push(Uint8Array.of(7));
  queue.clear();
  expect(queue.length).toBe(0);
});
