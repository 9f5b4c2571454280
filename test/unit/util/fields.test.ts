import { expect, test } from 'vitest';
import {
  type Fields,
  FLAG,
  fieldProblem,
  isListOf,
  isText,
  isWhole,
  objectSchema,
  oneOf,
  optional,
  pickFields,
} from '../../../src/util/fields.js';

interface Thing {
  readonly name: string;
  readonly color?: string;
  readonly isOld?: boolean;
}

const FIELDS: Fields<Thing> = {
  name: ['a text', isText, { type: 'string' }],
  color: optional(oneOf('red', 'green', 'blue')),
  isOld: optional(FLAG),
};

test.each([
  [{ name: 'a' }, undefined],
  [{ name: 'a', color: undefined }, undefined],
  [{ name: 'a', color: 'red', isOld: false }, undefined],
  [{}, { field: 'name', why: 'it must be a text' }],
  [Object.create({ name: 'inherited' }), { field: 'name', why: 'it must be a text' }],
  [
    { name: 'a', color: 'black' },
    { field: 'color', why: 'it must be red, green or blue' },
  ],
  [
    { name: 'a', isOld: null },
    { field: 'isOld', why: 'it must be true or false' },
  ],
  [
    { name: 'a', more: undefined },
    { field: 'more', why: 'there is no such field in a thing' },
  ],
  [
    { name: 'a', constructor: 1 },
    { field: 'constructor', why: 'there is no such field in a thing' },
  ],
  [
    JSON.parse('{"name":"a","__proto__":1}'),
    { field: '__proto__', why: 'there is no such field in a thing' },
  ],
  [
    { name: 'a', 'b\n\u001b[2J': 1 },
    { field: 'b\\n\\u001b[2J', why: 'there is no such field in a thing' },
  ],
  [null, { field: undefined, why: 'it must be an object' }],
  [['a'], { field: undefined, why: 'it must be an object' }],
  ['name', { field: undefined, why: 'it must be an object' }],
])('fieldProblem() of %j is %j', (value, problem) => {
  expect(fieldProblem(value, FIELDS, 'a thing')).toEqual(problem);
});

test('pickFields() copies what is there, of those fields', () => {
  expect(pickFields<Thing>({ name: 'a', color: undefined, more: 1 }, FIELDS)).toStrictEqual({ name: 'a' });
});

test('objectSchema() says what the checks say', () => {
  expect(objectSchema(FIELDS)).toEqual({
    type: 'object',
    properties: {
      name: { description: 'a text', type: 'string' },
      color: { description: 'red, green or blue', enum: ['red', 'green', 'blue'] },
      isOld: { description: 'true or false', type: 'boolean' },
    },
    required: ['name'],
    additionalProperties: false,
  });
});

test.each([
  [isWhole(0, 5), [0, 5], [-1, 6, 0.5, '1', Number.NaN, 2 ** 60, null]],
  [isListOf(isText, 2), [[], ['a', 'b']], [['a', 'b', 'c'], ['a', 1], 'ab', { length: 0 }]],
])('the check %# takes what it shall and refuses the rest', (check, good, bad) => {
  for (const value of good) expect(check(value), JSON.stringify(value)).toBe(true);
  for (const value of bad) expect(check(value), JSON.stringify(value)).toBe(false);
});
