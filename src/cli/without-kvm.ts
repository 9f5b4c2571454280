/** Messages of a host without KVM: which way is left, and what a KVM would add. */
import { TsvmError } from '../errors.js';
import { kvmProblem } from '../machine/check.js';
import { complain } from './complain.js';

/**
 * Says in a line what a KVM would add, where there is none. For people, since what a command does is the same: on a terminal only, unless
 * the command is one whose result lacks something.
 */
export function sayWithoutKvm(what: string, { always = false } = {}): void {
  if (!always && !process.stderr.isTTY) return;
  const problem = kvmProblem();
  if (problem !== undefined) complain(`tsvm: ${problem.message}; ${what}`);
}

/** Throws an error again, with the way to run a command without a machine where this host makes none. */
export function withoutKvm(error: unknown): never {
  if (!(error instanceof TsvmError) || !NO_MACHINES.has(error.code)) throw error;
  throw new TsvmError(error.code, error.message, {
    hint: `${error.hint}; without a machine, on the host’s own kernel: tsvm run --isolation container`,
    cause: error,
  });
}

const NO_MACHINES: ReadonlySet<string> = new Set(['TSVM_KVM_UNAVAILABLE', 'TSVM_ADDON']);
