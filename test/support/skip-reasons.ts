/** Reasons why a test is skipped. A report prints them, and tells the two kinds apart by how they begin. */
import { spawnSync } from 'node:child_process';

/** A program or a fetched file is missing, which every host can have: a failure where everything is to be tested. */
export const missing = (what: string): string => `missing: ${what}`;

/** Reason where this place cannot run the test, and another one does: an interpreted KVM, the rig, a user without privileges. */
export const notHere = (why: string): string => `not here: ${why}`;

/** The reason if `program` is not on the PATH. `debianPackage` has it. */
export function missingProgram(program: string, debianPackage: string = program): string | undefined {
  const { error } = spawnSync(program, ['--version'], { stdio: 'ignore' });
  return error === undefined ? undefined : missing(`${program} (apt-get install ${debianPackage})`);
}

/** The reason if this process is not the superuser's. */
export function notRoot(): string | undefined {
  return process.geteuid?.() === 0 ? undefined : notHere('only the superuser can');
}
