import { expect, test } from 'vitest';
import { Guard } from '../../../src/util/guard.js';

test('Guard.run() reports what is thrown or rejected, says undefined, and hands on what is not', async () => {
  const faults: string[] = [];
  const guard = new Guard((where, error) => void faults.push(`${where}: ${error}`));
  expect(guard.run('one', () => 7)).toBe(7);
  expect(
    guard.run('two', () => {
      throw new Error('up');
    }),
  ).toBeUndefined();
  guard.run('three', async () => {
    throw new Error('late');
  });
  guard.wrap('four', (text: string) => {
    throw new Error(text);
  })('x');
  await new Promise(setImmediate);
  expect(faults).toEqual(['two: Error: up', 'four: Error: x', 'three: Error: late']);
});
