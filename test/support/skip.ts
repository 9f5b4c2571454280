/**
 * Reasons why a test does not run. The test passes one to its context's `skip()`, so that a report can print it; a report tells
 * the two kinds apart by how they begin.
 */
import { spawnSync } from 'node:child_process';
import { beforeEach } from 'vitest';

/** A program or a fetched file is missing, which every host can have: a failure where everything is to be tested. */
export const missing = (what: string): string => `missing: ${what}`;

/** This place cannot run the test, and another one does: an interpreted KVM, the rig, a user without privileges. */
export const notHere = (why: string): string => `not here: ${why}`;

/** Skips each test of the file or `describe` that calls this, if there is a reason. `beforeAll` has to look at it itself. */
export function skipAll(reason: string | undefined): void {
  if (reason !== undefined) beforeEach(({ skip }) => skip(reason));
}

/** The reason if `program` is not on the PATH; `debianPackage` has it. */
export function missingProgram(program: string, debianPackage: string = program): string | undefined {
  const { error } = spawnSync(program, ['--version'], { stdio: 'ignore' });
  return error === undefined ? undefined : missing(`${program}, apt-get install ${debianPackage}`);
}

/** The reason if this process is not the superuser's. */
export function notRoot(): string | undefined {
  return process.geteuid?.() === 0 ? undefined : notHere('only the superuser can');
}
