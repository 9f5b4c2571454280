/** Users of a sandbox, by name or number, from its own tables. */

import { isErrnoError, TsvmError } from '../errors.js';
import { type AccountTable, MAX_TABLE_BYTES, userIn } from '../image/user.js';
import type { Abortable } from '../util/abort.js';
import type { CommandUser } from './command.js';

/** Reads the first bytes of a file of the sandbox; undefined if there is none. */
export type ReadFile = (
  path: string,
  mostBytes: number,
  options: Abortable,
) => Promise<Uint8Array | undefined>;

/**
 * Looks up a user in a sandbox: `NAME`, `UID`, `NAME:GROUP`, `UID:GID`.
 *
 * @param place - name of the sandbox, for messages
 * @throws TsvmError `TSVM_SANDBOX` if there is no such user.
 */
export async function userInSandbox(
  place: string,
  read: ReadFile,
  user: string | number,
  options: Abortable,
): Promise<CommandUser> {
  const [passwd, group] = await Promise.all(
    (['passwd', 'group'] as const).map((table) => tableOf(place, read, table, options)),
  );
  const tables: Readonly<Record<AccountTable, string>> = { passwd: passwd ?? '', group: group ?? '' };
  try {
    return userIn({ place, read: (table) => tables[table] }, String(user));
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    throw new TsvmError('TSVM_SANDBOX', error.message, { hint: error.hint, cause: error });
  }
}

async function tableOf(
  place: string,
  read: ReadFile,
  table: AccountTable,
  options: Abortable,
): Promise<string> {
  const bytes = await read(`/etc/${table}`, MAX_TABLE_BYTES + 1, options).catch(undefinedIfMissing);
  if (bytes === undefined) return '';
  if (bytes.length <= MAX_TABLE_BYTES) return Buffer.from(bytes).toString('utf8');
  throw new TsvmError('TSVM_SANDBOX', `cannot read /etc/${table} of ${place}: it is too long`, {
    hint: 'give the user by number: 1000:1000',
  });
}

/** Tells whether an agent refused because there is no file of that name. */
export function isMissing(error: unknown): boolean {
  return error instanceof TsvmError && isErrnoError(error.cause) && error.cause.code === 'ENOENT';
}

function undefinedIfMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}
