/**
 * A whole machine in a file, as `firecracker --config-file` takes it.
 *
 * @spec firecracker-1.13 "--config-file"  A whole machine in a file  #yes
 */
import { TsvmError } from '../../errors.js';
import { ApiError } from '../api-error.js';
import { describeIssue } from '../http/issue.js';
import type { Instance } from '../instance.js';
import { draftOf } from './draft.js';
import { fullConfiguration } from './models.js';
import { checkSetup } from './setup.js';

/** @throws TsvmError `TSVM_CONFIG`, naming what is wrong with it. */
export async function configure(instance: Instance, text: string): Promise<void> {
  const wrong = (why: string): TsvmError => new TsvmError('TSVM_CONFIG', `the configuration file: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw wrong(cause instanceof Error ? cause.message : String(cause));
  }
  const result = fullConfiguration.safeParse(value);
  if (!result.success) throw wrong(describeIssue(result.error.issues[0]));
  const setup = result.data;
  try {
    await checkSetup(setup);
  } catch (error) {
    throw error instanceof ApiError ? wrong(error.message) : error;
  }
  if (setup['boot-source'] === undefined) throw wrong('missing field `boot-source`');
  draftOf(instance).set(setup);
}
