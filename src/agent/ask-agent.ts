/** How files and ports ask the agent: a session for each operation, which an abort closes. */
import { type Abortable, untilAborted } from '../util/abort.js';
import type { Ask, Session } from './session.js';
import { Violation } from './violation.js';

/** Session, whatever its replies are read as. */
export type AnySession = Pick<
  Session<unknown, unknown>,
  'last' | 'stdout' | 'input' | 'sendHole' | 'close' | 'violated'
>;

/** Opens a session on a connection to the agent, which is made if there is none. */
export type OpenSession = <First, Last>(
  ask: Ask<First, Last>,
  options?: Abortable,
) => Promise<Session<First, Last>>;

/** Asks for an operation without streams, and waits until it is done. */
export async function askAgent<Last>(
  open: OpenSession,
  ask: Ask<void, Last>,
  { signal }: Abortable = {},
): Promise<Last> {
  const session = await open(ask, { signal });
  return await whileOpen(session, signal, () => session.last);
}

/** Waits for something of a session, which is closed if that fails or is aborted. */
export async function whileOpen<T>(
  session: AnySession,
  signal: AbortSignal | undefined,
  wait: () => Promise<T>,
): Promise<T> {
  try {
    return await untilAborted(signal, wait);
  } catch (error) {
    const told = toldOf(session, error);
    session.close(told);
    throw told;
  }
}

/** What the caller is told of an error: where the agent broke its protocol, the connection ends, and that is told. */
export function toldOf(session: AnySession, error: unknown): unknown {
  return error instanceof Violation ? session.violated(error) : error;
}
