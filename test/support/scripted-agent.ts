/** Agent's end of a connection in memory, for tests of the client: it says what a test has it say, frame by frame. */
import { Duplex } from 'node:stream';
import type { DialAgent } from '../../src/agent/connection.js';
import { frame, number32 } from '../../src/agent/frames.js';
import { AGENT_VERSION, FRAME, LAST, STREAM } from '../../src/agent/protocol.js';
import { eventually } from './eventually.js';

const HEAD_BYTES = 12;

/** Frame that the host sent. */
export interface SentFrame {
  readonly type: number;
  readonly session: number;
  readonly detail: number;
  readonly payload: Buffer;
}

/** End of the agent; `say` takes bytes that reach the host as they are. */
export class ScriptedAgent {
  readonly near: Duplex;
  readonly sent: SentFrame[] = [];
  /** Parts in which bytes reach the host; undefined: as they are said. */
  pieceBytes: number | undefined;
  /** False: what the host sends stays with it. */
  reads = true;
  #rest = Buffer.alloc(0);

  constructor() {
    this.near = new Duplex({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        if (!this.reads) return;
        this.#take(chunk);
        done();
      },
    });
  }

  /** Host's requests: the strings of each. */
  get requests(): readonly (readonly string[])[] {
    return this.sent
      .filter(({ type }) => type === FRAME.REQUEST)
      .map(({ payload }) => payload.toString('latin1', 0, payload.length - 1).split('\0'));
  }

  greet(version = AGENT_VERSION): void {
    this.say(frame(FRAME.HELLO, 0, 0, number32(version)));
  }

  say(...frames: readonly Buffer[]): void {
    const bytes = Buffer.concat(frames);
    const step = this.pieceBytes ?? (bytes.length || 1);
    for (let at = 0; at < bytes.length; at += step)
      this.near.push(Buffer.from(bytes.subarray(at, at + step)));
  }

  reply(session: number, fields: string, isLast = false): void {
    this.say(replyFrame(session, fields, isLast));
  }

  data(session: number, bytes: string | Buffer, stream: number = STREAM.OUT): void {
    this.say(frame(FRAME.DATA, session, stream, Buffer.from(bytes)));
  }

  /** Waits until the host has opened so many sessions. */
  async asked(count = 1): Promise<void> {
    await eventually(() => this.requests.length).toBe(count);
  }

  #take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= HEAD_BYTES) {
      const length = this.#rest.readUInt32LE(0);
      if (this.#rest.length < HEAD_BYTES + length) return;
      this.sent.push({
        session: this.#rest.readUInt32LE(4),
        type: this.#rest.readUInt8(8),
        detail: this.#rest.readUInt8(9),
        payload: Buffer.from(this.#rest.subarray(HEAD_BYTES, HEAD_BYTES + length)),
      });
      this.#rest = this.#rest.subarray(HEAD_BYTES + length);
    }
  }
}

/** Writes a reply of `name=value` fields with blanks between. */
export function replyFrame(session: number, fields: string, isLast = false): Buffer {
  const payload = Buffer.from(
    fields
      .split(' ')
      .filter((field) => field !== '')
      .map((field) => `${field}\0`)
      .join(''),
  );
  return frame(FRAME.REPLY, session, isLast ? LAST : 0, payload);
}

/** Dials scripted agents, one after another, which have greeted; `agents` has them. */
export function scriptedAgents(): { readonly dial: DialAgent; readonly agents: ScriptedAgent[] } {
  const agents: ScriptedAgent[] = [];
  return {
    agents,
    dial: async () => {
      const agent = new ScriptedAgent();
      agents.push(agent);
      agent.greet();
      return agent.near;
    },
  };
}
