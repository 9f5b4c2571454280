/** The connection that an agent's client keeps: made when it is needed, and anew when it was lost. */
import { isErrnoError, TsvmError } from '../errors.js';
import { untilAborted } from '../util/abort.js';
import type { OpenSession } from './ask-agent.js';
import { type Connection, type DialAgent, openConnection } from './connection.js';

/** Connection that is being made. It is given up when nobody waits for it any more. */
interface Dialling {
  readonly connection: Promise<Connection>;
  readonly abort: AbortController;
  waiting: number;
}

/** Connection to one agent, whichever it is at the moment. */
export class AgentLink {
  /** Opens a session. @throws TsvmError `TSVM_AGENT` if the agent cannot be reached */
  readonly open: OpenSession = async (ask, { signal } = {}) => {
    signal?.throwIfAborted();
    if (this.#isClosed) throw agentClosed();
    const kept = this.#connection?.isUsable === true ? this.#connection : undefined;
    return (kept ?? (await this.#connect(signal))).open(ask);
  };
  readonly #dial: DialAgent;
  #connection: Connection | undefined;
  #dialling: Dialling | undefined;
  #isClosed = false;

  constructor(dial: DialAgent) {
    this.#dial = dial;
  }

  /** Closes the connection; sessions on it fail, and none can be opened any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#giveUp(agentClosed());
    await this.#connection?.close();
  }

  async #connect(signal: AbortSignal | undefined): Promise<Connection> {
    this.#dialling ??= this.#begin();
    const dialling = this.#dialling;
    dialling.waiting++;
    try {
      return await untilAborted(signal, () => dialling.connection);
    } finally {
      dialling.waiting--;
      if (dialling.waiting === 0 && this.#dialling === dialling) this.#giveUp(signal?.reason);
    }
  }

  #begin(): Dialling {
    const abort = new AbortController();
    const connection = openConnection(this.#dial, abort.signal).then(
      (made) => {
        this.#connection = made;
        return made;
      },
      (error: unknown) => {
        throw isErrnoError(error) ? unreachable(error) : error;
      },
    );
    connection.catch(() => {}); // told to who waits
    return { connection, abort, waiting: 0 };
  }

  /** Ends what is being made; one that is made stays. */
  #giveUp(reason: unknown): void {
    this.#dialling?.abort.abort(reason);
    this.#dialling = undefined;
  }
}

const agentClosed = (): TsvmError => new TsvmError('TSVM_STATE', 'the client of the agent was closed');

function unreachable(cause: Error): TsvmError {
  return new TsvmError('TSVM_AGENT', `the agent cannot be reached: ${cause.message}`, {
    hint: 'the machine or container has ended, or has no agent',
    cause,
  });
}
