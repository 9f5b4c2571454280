/** Connection to an agent: greeting, and the sessions that it carries. */
import type { Duplex } from 'node:stream';
import { TsvmError } from '../errors.js';
import { type Abortable, untilAborted } from '../util/abort.js';
import { FrameDecoder, type FrameHead, frame, frameHead, number32 } from './frames.js';
import {
  AGENT_SESSION,
  AGENT_VERSION,
  FRAME,
  LAST,
  MAX_HOST_SESSION,
  MAX_PAYLOAD_BYTES,
  MAX_SESSIONS,
} from './protocol.js';
import { ERRNO } from './refusal.js';
import { ACCEPTED, type Ask, type Carrier, Session } from './session.js';
import { Violation } from './violation.js';

/** Time that an agent has for its greeting: it sends it as soon as it is connected to. */
const HELLO_TIMEOUT_MS = 30_000;
/** Time that what was sent last has to leave this process when the connection is closed. */
const FLUSH_TIMEOUT_MS = 1000;
/** Bound of frames that only answer the agent (credits, refusals) and that it does not read. */
const MAX_UNREAD_ANSWERS = 65_536;
/** Payloads up to this size are sent in one piece with their head. */
const JOINED_BYTES = 4096;

/** Makes a connection to the agent; each call a new one. */
export type DialAgent = (options?: Abortable) => Promise<Duplex>;

/** Connects to an agent, and exchanges greetings. @throws TsvmError `TSVM_AGENT` if what answers is no agent of this version. */
export async function openConnection(dial: DialAgent, signal?: AbortSignal): Promise<Connection> {
  const connection = new Connection(await dial({ signal }));
  const late = setTimeout(() => connection.lose(noGreeting()), HELLO_TIMEOUT_MS);
  try {
    await untilAborted(
      signal,
      () => connection.greeted,
      () => connection.lose(closed()),
    );
    return connection;
  } finally {
    clearTimeout(late);
  }
}

/** Connection whose sessions fail with it, with one error. */
export class Connection implements Carrier {
  /** The agent has greeted. */
  readonly greeted: Promise<void>;
  readonly #duplex: Duplex;
  readonly #decoder = new FrameDecoder((head, payload) => this.#take(head, payload));
  readonly #sessions = new Map<number, Session<unknown, unknown>>();
  #onGreeted: (error?: TsvmError) => void = () => {};
  #hasGreeted = false;
  #lost: TsvmError | undefined;
  #lastOfHost = 0;
  #lastOfAgent = AGENT_SESSION;
  #ofAgent = 0;
  #unreadAnswers = 0;
  /** Chunks that came while another one was being decoded; undefined while none is. */
  #pending: Buffer[] | undefined;

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
    this.greeted = new Promise((resolve, reject) => {
      this.#onGreeted = (error) => (error === undefined ? resolve() : reject(error));
    });
    this.greeted.catch(() => {});
    duplex.on('data', (bytes: Buffer) => this.#read(bytes));
    duplex.on('error', (cause: Error) => this.lose(gone(this.#hasGreeted, cause)));
    for (const event of ['end', 'close']) duplex.on(event, () => this.lose(gone(this.#hasGreeted)));
    duplex.write(frame(FRAME.HELLO, 0, 0, number32(AGENT_VERSION)));
  }

  /** Whether sessions can be opened. */
  get isUsable(): boolean {
    return this.#lost === undefined && !this.#duplex.destroyed && this.#lastOfHost < MAX_HOST_SESSION;
  }

  /** Opens a session: sends its request. On a connection that was lost it has failed. */
  open<First, Last>(ask: Ask<First, Last>): Session<First, Last> {
    const session = new Session<First, Last>(this, ++this.#lastOfHost, ask);
    if (this.#lost !== undefined) {
      session.fail(this.#lost);
      return session;
    }
    this.#sessions.set(session.id, session);
    const { request } = ask;
    for (let at = 0; at < request.length; at += MAX_PAYLOAD_BYTES) {
      const isLast = at + MAX_PAYLOAD_BYTES >= request.length;
      this.send(FRAME.REQUEST, session.id, isLast ? LAST : 0, request.subarray(at, at + MAX_PAYLOAD_BYTES));
    }
    return session;
  }

  /** Ends the connection and its sessions. */
  lose(error: TsvmError): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    this.#duplex.destroy();
    this.#onGreeted(error);
    for (const session of [...this.#sessions.values()]) session.fail(error);
  }

  /** Closes the connection once what was sent has left this process. */
  async close(): Promise<void> {
    for (const session of [...this.#sessions.values()]) session.fail(closed());
    let late: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      late = setTimeout(resolve, FLUSH_TIMEOUT_MS);
      if (this.#lost !== undefined) resolve();
      else this.#duplex.end(() => resolve());
    });
    clearTimeout(late);
    this.lose(closed());
  }

  send(type: number, session: number, detail: number, payload?: Uint8Array, sent?: () => void): void {
    if (this.#lost !== undefined) return;
    const isAnswer = type === FRAME.CREDIT || type === FRAME.REPLY;
    if (isAnswer && ++this.#unreadAnswers > MAX_UNREAD_ANSWERS) {
      this.violated(new Violation('it does not read what it is sent'));
      return;
    }
    const done = (error?: Error | null): void => {
      if (isAnswer) this.#unreadAnswers--;
      if (error === undefined || error === null) sent?.();
    };
    if (payload === undefined || payload.length <= JOINED_BYTES) {
      this.#duplex.write(frame(type, session, detail, payload), done);
      return;
    }
    this.#duplex.cork();
    this.#duplex.write(frameHead(type, session, detail, payload.length));
    this.#duplex.write(payload, done);
    this.#duplex.uncork();
  }

  forget(session: number): void {
    if (this.#sessions.delete(session) && session >= AGENT_SESSION) this.#ofAgent--;
  }

  violated(violation: Violation): TsvmError {
    const error = new TsvmError('TSVM_AGENT', `the agent broke its protocol: ${violation.message}`, {
      hint: 'the connection to it was ended; a program that does so is no agent of tsvm',
      cause: violation,
    });
    this.lose(error);
    return error;
  }

  #read(bytes: Buffer): void {
    if (this.#pending !== undefined) {
      this.#pending.push(bytes);
      return;
    }
    this.#pending = [];
    try {
      for (let next: Buffer | undefined = bytes; next !== undefined; next = this.#pending.shift())
        this.#decoder.push(next);
    } catch (error) {
      if (error instanceof Violation) {
        this.violated(error);
        return;
      }
      // A listener of a stream's threw: what it missed is lost.
      this.lose(new TsvmError('TSVM_AGENT', 'a listener threw', { cause: error }));
      throw error;
    } finally {
      this.#pending = undefined;
    }
  }

  #take({ session, type, detail }: FrameHead, payload: Buffer): void {
    if (this.#lost !== undefined) return;
    if (!this.#hasGreeted || type === FRAME.HELLO) this.#takeHello(session, type, payload);
    else if (type === FRAME.REQUEST) this.#takeRequest(session, detail, payload);
    else this.#takeOf(session, type, detail, payload);
  }

  #takeOf(session: number, type: number, detail: number, payload: Buffer): void {
    const last = session >= AGENT_SESSION ? this.#lastOfAgent : this.#lastOfHost;
    if (session === 0 || session === AGENT_SESSION || session > last)
      throw new Violation(`a frame for session ${session}, which never was`);
    this.#sessions.get(session)?.take(type, detail, payload);
  }

  #takeHello(session: number, type: number, payload: Buffer): void {
    if (this.#hasGreeted || session !== 0 || type !== FRAME.HELLO)
      throw new Violation('no greeting where one has to be');
    const version = payload.readUInt32LE();
    if (version !== AGENT_VERSION) {
      this.lose(otherVersion(version));
      return;
    }
    this.#hasGreeted = true;
    this.#onGreeted();
  }

  /** Takes a session that the agent opens. Its requests are short: each is one frame. */
  #takeRequest(id: number, detail: number, payload: Buffer): void {
    if (id <= this.#lastOfAgent || detail !== LAST) throw new Violation('a request that is none');
    this.#lastOfAgent = id;
    const offer = acceptedOffer(payload);
    if (offer === 0 || offer > this.#lastOfHost) throw new Violation('a session for an offer that never was');
    const offering = this.#sessions.get(offer);
    const refusal =
      offering === undefined ? ERRNO.ECONNREFUSED : this.#ofAgent >= MAX_SESSIONS ? ERRNO.EAGAIN : undefined;
    if (offering === undefined || refusal !== undefined) {
      this.send(FRAME.REPLY, id, LAST, Buffer.from(`errno=${refusal}\0`));
      return;
    }
    const session = new Session(this, id, ACCEPTED);
    this.#sessions.set(id, session);
    this.#ofAgent++;
    offering.accept(session);
  }
}

/** Reads the one request that an agent has: of a connection to what the session `offer` offers. */
function acceptedOffer(payload: Buffer): number {
  const [, offer] = /^accepted\0offer=(\d{1,10})\0\0$/.exec(payload.toString('latin1')) ?? [];
  if (offer === undefined) throw new Violation('a request that is none');
  return Number(offer);
}

const HINT = 'the machine or container has no agent, or it has not begun yet';
const closed = (): TsvmError => new TsvmError('TSVM_STATE', 'the connection to the agent was closed');
const noGreeting = (): TsvmError =>
  new TsvmError('TSVM_AGENT', `no agent answered within ${HELLO_TIMEOUT_MS / 1000} s`, { hint: HINT });

function gone(hasGreeted: boolean, cause?: Error): TsvmError {
  if (!hasGreeted)
    return new TsvmError('TSVM_AGENT', 'the connection ended before an agent answered', {
      hint: HINT,
      cause,
    });
  return new TsvmError('TSVM_AGENT', 'the connection to the agent was lost', {
    hint: 'the machine or container has ended, or its agent was killed',
    cause,
  });
}

function otherVersion(version: number): TsvmError {
  const isOlder = version < AGENT_VERSION;
  return new TsvmError(
    'TSVM_AGENT',
    `the agent speaks version ${version} of the protocol, this tsvm ${AGENT_VERSION}`,
    {
      hint: isOlder
        ? 'the agent is older: start the machine or container anew with this tsvm'
        : 'this tsvm is older than what started the agent: update it',
    },
  );
}
