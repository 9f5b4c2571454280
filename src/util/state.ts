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
