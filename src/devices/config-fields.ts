/** Checks of a device request that comes as data: from a snapshot, which may be damaged or somebody's trap. */
import { TsvmError } from '../errors.js';
import { type Field, type Fields, FLAG, fieldProblem, optional, pickFields } from '../util/fields.js';

/**
 * A copy of `config` that has the fields of `fields` and no others.
 *
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function checkRequestConfig<Config>(kind: string, config: unknown, fields: Fields<Config>): Config {
  const problem = fieldProblem(config, fields);
  if (problem === undefined) return pickFields<Config>(config as object, fields);
  const { field, why } = problem;
  throw new TsvmError(
    'TSVM_CONFIG',
    field === undefined ? `${kind}: its configuration must be an object` : `${kind}.${field}: ${why}`,
  );
}

/** A choice that need not be made. */
export const CHOICE: Field = optional(FLAG);

/** Tells whether the host can take a value for a path. */
export function isPath(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0');
}
