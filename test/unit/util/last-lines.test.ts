import { expect, test } from 'vitest';
import { lastLines } from '../../../src/util/last-lines.js';

test.each([
  ['a\nb\nc\n', 1, 'c\n'],
  ['a\nb\nc', 2, 'b\nc'],
  ['a\nb\n', 2, 'a\nb\n'],
  ['a\nb\n', 9, 'a\nb\n'],
  ['a\nb\n', 0, ''],
  ['\n\n', 1, '\n'],
  ['\na', 1, 'a'],
  ['\n', 2, '\n'],
  ['', 3, ''],
])('lastLines(%j, %i) is %j', (text, count, expected) =>
  expect(lastLines(Buffer.from(text), count).toString()).toBe(expected),
);
