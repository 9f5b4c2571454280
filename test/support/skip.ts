import { beforeEach } from 'vitest';

/**
 * Skips each test of the file or `describe` that calls this, if there is a reason (see skip-reasons.ts). A `beforeAll` is not
 * skipped by it.
 */
export function skipAll(reason: string | undefined): void {
  if (reason !== undefined) beforeEach(({ skip }) => skip(reason));
}
