/** Aborts of what takes time: how a caller's `AbortSignal` is heard, in every layer. */

/** Options of a call that can be aborted. */
export interface Abortable {
  /** Aborts the call: it rejects with the signal's reason, and nothing half-made is left. Without effect once the call is done. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Waits for what `begin` begins, or for the abort, whichever comes first; nothing is begun after an abort. What is waited for must be such
 * that it can be left to itself, or `giveUp` has to end it. Steps that cannot be left call `signal.throwIfAborted()` in between instead.
 */
export async function untilAborted<T>(
  signal: AbortSignal | undefined,
  begin: () => Promise<T>,
  giveUp: () => void = () => {},
): Promise<T> {
  if (signal === undefined) return await begin();
  signal.throwIfAborted();
  let stopListening = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    const abort = (): void => {
      reject(signal.reason);
      giveUp();
    };
    signal.addEventListener('abort', abort, { once: true });
    stopListening = () => signal.removeEventListener('abort', abort);
  });
  try {
    return await Promise.race([begin(), aborted]);
  } finally {
    stopListening();
  }
}

/** Tells whether an error is the abort of a call, which nobody explains. */
export function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true && error === signal.reason;
}
