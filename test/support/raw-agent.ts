/** A small client of the agent, without windows or errors of its own: what tests of machines ask it with. */
import type { Duplex } from 'node:stream';
import { FrameDecoder, frame, number32 } from '../../src/agent/frames.js';
import { AGENT_VERSION, FRAME, LAST } from '../../src/agent/protocol.js';
import { type Operand, type RequestOption, requestBytes } from '../../src/agent/strings.js';

const MAX_PIECE_BYTES = 32 << 10;

type Reply = Readonly<Record<string, string>>;

/** One session, as it goes. */
export interface RawSession {
  readonly first: Promise<Reply>;
  readonly last: Promise<Reply>;
  /** Text of the streams 0 to 2. */
  readonly text: [string, string, string];
}

interface OpenSession extends RawSession {
  reply(fields: Reply, isLast: boolean): void;
  lose(error: Error): void;
}

export class RawAgent {
  readonly duplex: Duplex;
  /** Resolves when the connection has ended, on whichever side. */
  readonly lost: Promise<void>;
  readonly #sessions = new Map<number, OpenSession>();
  #last = 0;

  constructor(duplex: Duplex) {
    this.duplex = duplex;
    const decoder = new FrameDecoder(({ session, type, detail }, payload) => {
      const open = this.#sessions.get(session);
      if (open === undefined) return;
      if (type === FRAME.REPLY) open.reply(fieldsOf(payload), detail === LAST);
      if (type !== FRAME.DATA) return;
      open.text[detail as 0 | 1 | 2] += payload.toString('latin1');
      duplex.write(frame(FRAME.CREDIT, session, detail, number32(payload.length)));
    });
    duplex.on('data', (bytes: Buffer) => decoder.push(Buffer.from(bytes)));
    duplex.on('error', () => {});
    this.lost = new Promise((resolve) => {
      for (const event of ['end', 'close']) duplex.once(event, () => resolve());
    });
    void this.lost.then(() => {
      for (const session of this.#sessions.values()) session.lose(new Error('the connection is lost'));
    });
    duplex.write(frame(FRAME.HELLO, 0, 0, number32(AGENT_VERSION)));
  }

  ask(
    operation: string,
    options: readonly RequestOption[] = [],
    operands: readonly Operand[] = [],
  ): RawSession {
    const id = ++this.#last;
    const bytes = requestBytes(operation, options, operands);
    const first = deferred<Reply>();
    const last = deferred<Reply>();
    for (const { promise } of [first, last]) promise.catch(() => {});
    const session: OpenSession = {
      first: first.promise,
      last: last.promise,
      text: ['', '', ''],
      reply: (fields, isLast) => {
        first.resolve(fields);
        if (isLast) last.resolve(fields);
      },
      lose: (error) => {
        first.reject(error);
        last.reject(error);
      },
    };
    this.#sessions.set(id, session);
    for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + MAX_PIECE_BYTES);
      this.duplex.write(frame(FRAME.REQUEST, id, at + piece.length === bytes.length ? LAST : 0, piece));
    }
    return session;
  }

  /** Runs a command to its end. */
  async run(argv: readonly string[], options: readonly RequestOption[] = []) {
    const session = this.ask('exec', [['input', 0], ['env', 'PATH=/bin:/usr/bin:/sbin'], ...options], argv);
    const last = await session.last;
    return { ...last, out: session.text[1], err: session.text[2] };
  }
}

function deferred<T>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((accept, refuse) => {
    resolve = accept;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

function fieldsOf(payload: Buffer): Reply {
  const strings = payload.toString('latin1').split('\0').slice(0, -1);
  return Object.fromEntries(strings.map((text) => text.split(/=(.*)/s, 2)));
}
