import { expect, test } from 'vitest';
import { stateOf } from '../../../src/util/state.js';

const SHAPE = { small: 'u8', wide: 'u16', any: 'integer', on: 'boolean', text: 'bytes' } as const;
const good = { version: 3, small: 255, wide: 65_535, any: -7, on: false, text: [0, 255] };

test('stateOf() gives a state that has the fields of its shape', () => {
  expect(stateOf('toy', good, 3, SHAPE)).toEqual(good);
});

const { small: _, ...lacking } = good;
const refused: Readonly<Record<string, object>> = {
  'of another version': { ...good, version: 4 },
  'with a byte too large': { ...good, small: 256 },
  'with a byte below zero': { ...good, small: -1 },
  'with half a byte': { ...good, small: 0.5 },
  'with a byte as text': { ...good, small: '1' },
  'with a word too large': { ...good, wide: 65_536 },
  'with an integer that is none': { ...good, any: 2 ** 53 },
  'with a flag that is a number': { ...good, on: 1 },
  'with bytes that are no list': { ...good, text: { length: 2 } },
  'with a list of no bytes': { ...good, text: [1, 256] },
  'with null': { ...good, text: null },
  'without a field': lacking,
  'with a field too many': { ...good, more: 1 },
  'with an inherited field for its own': Object.assign(Object.create({ small: 1 }), lacking),
};

test.each(Object.keys(refused))('stateOf() refuses a state %s', (name) => {
  expect(() => stateOf('toy', refused[name] as typeof good, 3, SHAPE)).toThrowError(
    expect.objectContaining({ code: 'TSVM_STATE', message: expect.stringContaining('toy') }),
  );
});
