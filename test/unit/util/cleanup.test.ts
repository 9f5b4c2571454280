import { expect, test } from 'vitest';
import { allDone } from '../../../src/util/cleanup.js';

test('allDone() throws the first failure only when all others have settled', async () => {
  let settled = false;
  const slow = new Promise<void>((resolve) => setTimeout(resolve, 5)).then(() => {
    settled = true;
  });
  await expect(
    allDone([Promise.reject(new Error('first')), slow, Promise.reject(new Error('x'))]),
  ).rejects.toThrow('first');
  expect(settled).toBe(true);
  await allDone([]);
});
