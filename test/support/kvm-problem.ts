import { closeSync, openSync } from 'node:fs';

/** Reason why the tests that need a machine cannot run here; `undefined` when they can. */
export function kvmProblem(): string | undefined {
  try {
    closeSync(openSync('/dev/kvm', 'r+'));
    return undefined;
  } catch (error) {
    return `cannot open /dev/kvm: ${(error as NodeJS.ErrnoException).code}`;
  }
}
