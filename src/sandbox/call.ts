/** Calls of a sandbox: each can be aborted, and may take a limited time. */
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import { MAX_TIMER_MS } from '../util/timer.js';

/** Options of every call of a sandbox. */
export interface CallOptions extends Abortable {
  /** Time limit of the call, in milliseconds: it rejects with `TSVM_TIMEOUT` when that is over. Default: none. */
  readonly timeoutMs?: number | undefined;
}

/** Checks a time limit. @throws TsvmError `TSVM_CONFIG` */
export function checkTimeout(timeoutMs: number | undefined): void {
  if (timeoutMs === undefined || (timeoutMs > 0 && timeoutMs <= MAX_TIMER_MS)) return;
  throw new TsvmError('TSVM_CONFIG', `timeoutMs: ${timeoutMs} is not a time limit`, {
    hint: `milliseconds, more than 0 and at most ${MAX_TIMER_MS}`,
  });
}

/**
 * Makes a call whose signal is aborted when the caller's is, or when the time is up.
 *
 * @param what - call, for the message
 */
export async function inTime<T>(
  what: string,
  { signal, timeoutMs }: CallOptions,
  call: (options: Abortable) => Promise<T>,
): Promise<T> {
  checkTimeout(timeoutMs);
  signal?.throwIfAborted();
  if (timeoutMs === undefined) return await call({ signal });
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(timedOut(what, timeoutMs)), timeoutMs);
  try {
    return await call({
      signal: signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]),
    });
  } finally {
    clearTimeout(timer);
  }
}

function timedOut(what: string, timeoutMs: number): TsvmError {
  return new TsvmError('TSVM_TIMEOUT', `${what}: not done after ${timeoutMs} ms`, {
    hint: 'give it more time: `timeoutMs`',
  });
}
