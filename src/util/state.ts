/** Checks for saved state: plain data that may come from an older version, or from somebody hostile. */
import { TsvmError } from '../errors.js';

/** What every saved state has. */
export interface VersionedState {
  readonly version: number;
}

/** Throws TSVM_STATE unless `state` says the version that the reader knows. */
export function checkStateVersion(what: string, state: VersionedState, version: number): void {
  if (state.version !== version) {
    throw new TsvmError('TSVM_STATE', `saved state of ${what} has version ${state.version}, not ${version}`, {
      hint: 'restore it with the version of tsvm that saved it',
    });
  }
}

/** Throws TSVM_STATE unless `condition`. */
export function checkState(condition: boolean, message: string): asserts condition {
  if (!condition) throw new TsvmError('TSVM_STATE', `saved state is not valid: ${message}`);
}

/** Tells whether a value is a whole number that `mask` has all bits of. */
const isUnsigned = (value: unknown, mask: number): boolean => ((value as number) & mask) === value;

/** Plain loop: a fork checks the state of its parent, and is to take less than a millisecond. */
function isBytes(value: unknown): boolean {
  if (!Array.isArray(value)) return false;
  for (let i = 0; i < value.length; i++) if ((value[i] & 0xff) !== value[i]) return false;
  return true;
}

/** Kinds of fields of saved state, each with its check. */
const FIELD_CHECKS = {
  u8: (value: unknown) => isUnsigned(value, 0xff),
  u16: (value: unknown) => isUnsigned(value, 0xffff),
  integer: (value: unknown) => Number.isSafeInteger(value),
  boolean: (value: unknown) => typeof value === 'boolean',
  bytes: isBytes,
} as const;

interface FieldTypes {
  readonly u8: number;
  readonly u16: number;
  readonly integer: number;
  readonly boolean: boolean;
  readonly bytes: readonly number[];
}

/** Fields of a device's saved state, by name. */
export type StateShape = Readonly<Record<string, keyof FieldTypes>>;

/** Saved state with the fields of a shape. */
export type StateOf<Shape extends StateShape> = VersionedState & {
  readonly [Key in keyof Shape]: FieldTypes[Shape[Key]];
};

/**
 * Saved state that has the fields of `shape`, and no others.
 *
 * @throws TsvmError `TSVM_STATE`
 */
export function stateOf<Shape extends StateShape>(
  what: string,
  state: VersionedState,
  version: number,
  shape: Shape,
): StateOf<Shape> {
  checkStateVersion(what, state, version);
  const fields = state as VersionedState & Readonly<Record<string, unknown>>;
  const names = Object.keys(shape);
  for (const name of names) {
    const kind = shape[name] as keyof FieldTypes;
    if (!Object.hasOwn(fields, name) || !FIELD_CHECKS[kind](fields[name]))
      checkState(false, `${what}: ${name}`);
  }
  checkState(Object.keys(fields).length === names.length + 1, `${what}: it has a field too many`);
  return state as StateOf<Shape>;
}
