/**
 * Fields of an object that comes as data: the one way in which configurations, device requests, specs and records are checked.
 *
 * Every command loads this, and a schema library costs 60 ms to load.
 */
import { TsvmError } from '../errors.js';
import { printable } from './printable.js';

/** Check of a value. */
export type Check = (value: unknown) => boolean;

/**
 * Rule for a field: words for the message, the check, and its JSON Schema where a document shows it. The check of a field that may be
 * left out allows `undefined`.
 */
export type Field = readonly [expected: string, check: Check, schema?: object];
export type Fields<T> = Readonly<Record<keyof T & string, Field>>;

/** First thing that is wrong with an object. */
export interface FieldProblem {
  /** Name of the field; undefined if it is no object at all. */
  readonly field: string | undefined;
  readonly why: string;
}

/**
 * Looks for what is wrong with a value that must have the fields of `fields` and no others.
 *
 * @param noun - what has these fields, for the message of an unknown one
 */
export function fieldProblem(
  value: unknown,
  fields: Readonly<Record<string, Field>>,
  noun?: string,
): FieldProblem | undefined {
  if (!isRecord(value)) return { field: undefined, why: 'it must be an object' };
  for (const name of Object.keys(value)) {
    if (Object.hasOwn(fields, name)) continue;
    const place = noun === undefined ? '' : ` in ${noun}`;
    return { field: printable(name), why: `there is no such field${place}` };
  }
  for (const [name, [expected, check]] of Object.entries(fields)) {
    if (!check(own(value, name))) return { field: name, why: `it must be ${expected}` };
  }
  return undefined;
}

/**
 * Checks that a value has the fields of `fields` and no others.
 *
 * @param prefix - of the names in messages: `command.`
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function requireFields<T>(value: unknown, fields: Fields<T>, noun: string, prefix = ''): void {
  const problem = fieldProblem(value, fields, noun);
  if (problem === undefined) return;
  const { field, why } = problem;
  throw new TsvmError('TSVM_CONFIG', `${field === undefined ? noun : `${prefix}${field}`}: ${why}`);
}

/** Copies the fields of `fields` that an object has. */
export function pickFields<T>(value: object, fields: Fields<T>): T {
  const names = Object.keys(fields).filter((name) => own(value, name) !== undefined);
  return Object.fromEntries(names.map((name) => [name, own(value, name)])) as T;
}

/** Value of a field that is the object's own: `constructor` is none. */
function own(value: object, name: string): unknown {
  return Object.hasOwn(value, name) ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}

/** JSON Schema of an object with these fields and no others. */
export function objectSchema(fields: Readonly<Record<string, Field>>): object {
  const entries = Object.entries(fields);
  return {
    type: 'object',
    properties: Object.fromEntries(
      entries.map(([name, [expected, , schema]]) => [name, { description: expected, ...schema }]),
    ),
    required: entries.flatMap(([name, [, check]]) => (check(undefined) ? [] : [name])),
    additionalProperties: false,
  };
}

export const isText: Check = (value) => typeof value === 'string';
export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Check of a list whose items all pass `check`. */
export const isListOf =
  (check: Check, most = Number.POSITIVE_INFINITY): Check =>
  (value) =>
    Array.isArray(value) && value.length <= most && value.every(check);

/** Check of a whole number from `least` to `most`. */
export const isWhole =
  (least = Number.MIN_SAFE_INTEGER, most = Number.MAX_SAFE_INTEGER): Check =>
  (value) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;

/** Check of a value that may be left out. */
export const orNone =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

/** Field that may be left out. */
export const optional = ([expected, check, schema = {}]: Field): Field => [expected, orNone(check), schema];

export const FLAG: Field = ['true or false', (value) => typeof value === 'boolean', { type: 'boolean' }];

/** Field with one of a few names. */
export function oneOf(...names: readonly string[]): Field {
  const words = names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
  return [`${words}`, (value) => names.some((name) => name === value), { enum: names }];
}
