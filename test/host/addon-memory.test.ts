/** Guest memory that is given back: holes in memfds, and private copies that go. */
import { expect, test } from 'vitest';
import { loadAddon } from '../../src/native/binding.js';
import { PAGE_BYTES } from '../../src/util/units.js';

const PAGES = 64;
const addon = loadAddon();

function filled() {
  const memory = addon.createMemory(PAGES * PAGE_BYTES, 'tsvm-test');
  const bytes = new Uint8Array(memory.buffer);
  bytes.fill(7);
  return { memory, bytes };
}

const pageOf = (bytes: Uint8Array, page: number): number[] => [
  ...new Set(bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)),
];

test('release() punches holes into memory that is shared, and nowhere else', async () => {
  const { memory, bytes } = filled();
  await memory.release(Uint32Array.of(2, 3, 10, 1));
  expect([1, 2, 3, 4, 5, 9, 10, 11].map((page) => pageOf(bytes, page)[0])).toEqual([7, 0, 0, 0, 7, 7, 0, 7]);
  memory.close();
  const again = filled();
  await again.memory.release(Uint32Array.of(2, 3));
  expect([...again.memory.dataPages()]).toEqual([0, 2, 5, PAGES - 5]);
  again.memory.close();
});

test('release() of a private view drops its copies: the base is seen again, and is not touched', async () => {
  const { memory: base, bytes: below } = filled();
  base.freeze();
  const view = addon.createMemory(PAGES * PAGE_BYTES, 'tsvm-test');
  view.mapMemory(base);
  const bytes = new Uint8Array(view.buffer);
  bytes.fill(9, 0, 4 * PAGE_BYTES);
  await view.release(Uint32Array.of(1, 2));
  expect([0, 1, 2, 3, 4].map((page) => pageOf(bytes, page)[0])).toEqual([9, 7, 7, 9, 7]);
  expect(pageOf(below, 1)).toEqual([7]);
  // What is frozen keeps what its copies had, too.
  below.fill(8, 0, 2 * PAGE_BYTES);
  await base.release(Uint32Array.of(0, 1));
  expect([0, 1].map((page) => pageOf(below, page)[0])).toEqual([7, 8]);
  view.close();
  base.close();
});

test.each([
  [PAGES, 1],
  [0, PAGES + 1],
  [0xffff_ffff, 0xffff_ffff],
])('release() refuses pages beyond the memory: %i, %i', (first, count) => {
  const { memory, bytes } = filled();
  expect(() => memory.release(Uint32Array.of(0, 1, first, count))).toThrow(RangeError);
  expect(pageOf(bytes, 0)).toEqual([7]);
  memory.close();
});

test('release() while the memory is closed is done on what it was', async () => {
  const { memory } = filled();
  const released = memory.release(Uint32Array.of(0, PAGES));
  memory.close();
  await released;
  expect(() => memory.release(Uint32Array.of(0, 1))).toThrow(/EBADF/);
});
