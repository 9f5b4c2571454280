/** The protocol's numbers, of which each side has its own copy. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import * as protocol from '../../../src/agent/protocol.js';

/** Values of the enumerations and definitions of guests/agent/protocol.h. */
function numbersOfAgent(): Record<string, number> {
  const url = new URL('../../../guests/agent/protocol.h', import.meta.url);
  const text = readFileSync(url, 'utf8').replace(/\/\*.*?\*\//gs, '');
  const found: Record<string, number> = {};
  const value = (expression: string): number => {
    expect(expression).toMatch(/^(0x[0-9a-f]+u?|\d+)( *(\*|<<) *\d+)?$/);
    const [left = '', operator, right = ''] = expression.replace(/u$/, '').split(/ *(\*|<<) */);
    if (operator === undefined) return Number(left);
    return operator === '*' ? Number(left) * Number(right) : Number(left) << Number(right);
  };
  for (const [, body = ''] of text.matchAll(/enum[a-z_ ]*\{(.*?)\};/gs)) {
    for (const entry of body.split(',').map((part) => part.trim())) {
      if (entry === '') continue;
      const [name = '', expression = ''] = entry.split(/\s*=\s*/);
      found[name] = value(expression);
    }
  }
  for (const [, name = '', expression = ''] of text.matchAll(/^#define (\w+) (.+)$/gm))
    found[name] = value(expression);
  return found;
}

test('guests/agent/protocol.h and src/agent/protocol.ts say the same', () => {
  const { FRAME, STREAM, ...rest } = protocol;
  const { LAST: _, MAX_HOST_SESSION: __, MAX_WINDOW_BYTES: ___, ...numbers } = rest;
  expect(numbersOfAgent()).toEqual({
    ...numbers,
    ...Object.fromEntries(Object.entries(FRAME).map(([name, number]) => [`FRAME_${name}`, number])),
    ...Object.fromEntries(Object.entries(STREAM).map(([name, number]) => [`STREAM_${name}`, number])),
  });
});
