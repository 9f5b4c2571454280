import { expect, test } from 'vitest';
import { printable } from '../../../src/util/printable.js';

test.each([
  ['plain, é and 漢', 'plain, é and 漢'],
  ['a\nb\tc', 'a\\nb\\tc'],
  ['\x1b[2J\x9b1A\x7f', '\\u001b[2J\\u009b1A\\u007f'],
  ['a\u202eb\u2028c\ufeff', 'a\\u202eb\\u2028c\\ufeff'],
  ['\u{e0041}\ud800', '\\udb40\\udc41\\ud800'],
])('printable() shows %j as %s', (text, shown) => {
  expect(printable(text)).toBe(shown);
  expect(JSON.parse(`"${printable(text)}"`)).toBe(text);
});
