import { expect, test } from 'vitest';
import { FileQueue } from '../../run/queue.js';

const files = Array.from({ length: 40 }, (_, index) => `${index}`);

test('FileQueue.take() gives each file once, in order, in batches that become smaller, down to one', () => {
  const queue = new FileQueue(files, 2);
  const batches: string[][] = [];
  while (!queue.isEmpty) batches.push(queue.take());
  expect(batches.flat()).toEqual(files);
  const sizes = batches.map((batch) => batch.length);
  expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
  expect(sizes[0]).toBe(7);
  expect(sizes.slice(-6)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(queue.take()).toEqual([]);
});

test('FileQueue.putBack() puts files before those that wait', () => {
  const queue = new FileQueue(['a', 'b'], 2);
  const taken = queue.take();
  queue.putBack(taken);
  expect([...queue.take(), ...queue.take()]).toEqual(['a', 'b']);
});

test('FileQueue.take() gives a file that is there several times in a batch for each time', () => {
  const queue = new FileQueue(['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b'], 1);
  expect([queue.take(), queue.take(), queue.take()]).toEqual([
    ['a', 'b'],
    ['a', 'b'],
    ['a', 'b'],
  ]);
});

test('FileQueue.take() keeps batches small enough to lose one', () => {
  expect(
    new FileQueue(
      Array.from({ length: 1000 }, (_, index) => `${index}`),
      2,
    ).take(),
  ).toHaveLength(8);
});
