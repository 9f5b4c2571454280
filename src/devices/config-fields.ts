/** Checks of a device request that comes as data: from a snapshot, which may be damaged or somebody's trap. */
import { TsvmError } from '../errors.js';
import { printable } from '../util/printable.js';

/** What a field must be: in words for the message, and as a check. An optional one's check allows `undefined`. */
export type RequestField = readonly [expected: string, check: (value: unknown) => boolean];

/**
 * A copy of `config` that has the fields of `fields` and no others.
 *
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function checkRequestConfig<Config>(
  kind: string,
  config: unknown,
  fields: Readonly<Record<keyof Config & string, RequestField>>,
): Config {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new TsvmError('TSVM_CONFIG', `${kind}: its configuration must be an object`);
  }
  for (const name of Object.keys(config)) {
    if (!Object.hasOwn(fields, name)) {
      throw new TsvmError('TSVM_CONFIG', `${kind}.${printable(name)}: there is no such field`);
    }
  }
  const checked: Record<string, unknown> = {};
  for (const [name, [expected, check]] of Object.entries<RequestField>(fields)) {
    const value: unknown = Object.hasOwn(config, name)
      ? (config as Record<string, unknown>)[name]
      : undefined;
    if (!check(value)) throw new TsvmError('TSVM_CONFIG', `${kind}.${name}: it must be ${expected}`);
    if (value !== undefined) checked[name] = value;
  }
  return checked as Config;
}

/** A choice that need not be made. */
export const CHOICE: RequestField = [
  'true or false',
  (value) => value === undefined || typeof value === 'boolean',
];

/** What the host can take for a path. */
export function isPath(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && !value.includes('\0');
}
