/** Refusals of operations by the agent, by Linux's numbers of errors. */
import { getSystemErrorMap } from 'node:util';
import { printable } from '../util/printable.js';
import type { Reply } from './strings.js';

const MAX_ERRNO = 4095;
const MAX_WHAT_CHARACTERS = 200;

/** Errors of Linux that the client knows or sends. */
export const ERRNO = {
  ENOENT: 2,
  ESRCH: 3,
  E2BIG: 7,
  ENOEXEC: 8,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  ENOTDIR: 20,
  EINVAL: 22,
  ECONNREFUSED: 111,
  EALREADY: 114,
  ECANCELED: 125,
} as const;

/** Last reply of an operation that cannot be done. */
export interface Refusal {
  /** Linux's number of the error. */
  readonly errno: number;
  /** Step that failed, or the name of an option; fit for a terminal. */
  readonly what: string;
  /** Error as Node has them, with `code` and `errno`: the cause of what the caller is told. */
  readonly error: Error;
}

/** Reads a reply as a refusal; undefined if it is none. */
export function refusalOf(reply: Reply): Refusal | undefined {
  if (!reply.has('errno')) return undefined;
  const errno = reply.number('errno', MAX_ERRNO);
  const what = reply.has('what') ? printable(reply.text('what').slice(0, MAX_WHAT_CHARACTERS)) : '';
  const [code, message] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, `error ${errno}`];
  return { errno, what, error: Object.assign(new Error(message), { code, errno: -errno, syscall: what }) };
}
