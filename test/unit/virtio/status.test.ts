import { expect, test } from 'vitest';
import { writeStatus } from '../../../src/virtio/status.js';

/** The statuses after each write, and how many writes were refused. */
function run(writes: number[], { accept = true, from = 0 } = {}): { statuses: number[]; refused: number } {
  let status = from;
  let refused = 0;
  const statuses = writes.map((written) => {
    status = writeStatus(status, written, { acceptFeatures: () => accept, refuse: () => refused++ });
    return status;
  });
  return { statuses, refused };
}

test('writeStatus() follows the steps of 3.1.1', () => {
  expect(run([1, 3, 11, 15])).toEqual({ statuses: [1, 3, 11, 15], refused: 0 });
});

test('writeStatus() takes several steps in one write, in order', () => {
  expect(run([15])).toEqual({ statuses: [15], refused: 0 });
  expect(run([15], { accept: false })).toEqual({ statuses: [3], refused: 0 });
});

test('writeStatus() leaves FEATURES_OK off when features are not acceptable (2.2.2)', () => {
  expect(run([3, 11, 15], { accept: false })).toEqual({ statuses: [3, 3, 3], refused: 0 });
});

test('writeStatus() refuses skipped steps (hostile 21)', () => {
  expect(run([2])).toEqual({ statuses: [0], refused: 1 });
  expect(run([1, 5, 7])).toEqual({ statuses: [1, 1, 3], refused: 2 });
  expect(run([3, 7])).toEqual({ statuses: [3, 3], refused: 1 });
});

test('writeStatus() refuses to clear a bit (2.1.1; hostile 21)', () => {
  expect(run([15, 14, 11, 1])).toEqual({ statuses: [15, 15, 15, 15], refused: 3 });
});

test('writeStatus() keeps FAILED and NEEDS_RESET until a reset', () => {
  expect(run([3, 0x83, 11, 15])).toEqual({ statuses: [3, 0x83, 0x83, 0x83], refused: 0 });
  expect(run([15, 0x8f], { from: 0x4f })).toEqual({ statuses: [0x4f, 0xcf], refused: 0 });
});

test('writeStatus() ignores reserved bits, and NEEDS_RESET, which is not the driver’s', () => {
  expect(run([0x31, 0x73])).toEqual({ statuses: [1, 3], refused: 0 });
});
