/** Sessions: one operation each, from its request to its last reply. */
import { TsvmError } from '../errors.js';
import { number32, number64 } from './frames.js';
import {
  AGENT_SESSION,
  FRAME,
  LAST,
  MAX_WINDOW_BYTES,
  type OutputNumber,
  STREAM,
  WINDOW_BYTES,
} from './protocol.js';
import { ERRNO, type Refusal, refusalOf } from './refusal.js';
import { InputStream, type InputTarget, type OutputForm, OutputStream } from './streams.js';
import { Reply } from './strings.js';
import { Violation } from './violation.js';

/** Credit is given for this many bytes at a time. */
const CREDIT_STEP_BYTES = WINDOW_BYTES / 4;

/** Operation as its client sees it: its request, its streams, and how its replies are read. */
export interface Ask<First, Last> {
  /** Request, as `requestBytes()` writes it. */
  readonly request: Uint8Array;
  /** Streams that come from the agent. Data on any other is a violation. */
  readonly outputs?: Readonly<Partial<Record<OutputNumber, OutputForm>>>;
  /** There is a stream to the agent; destroyed before its end, it sends its end all the same, or closes the session. */
  readonly input?: 'ends' | 'closes';
  /** Reads the first reply, which comes before the last one; without it there must be none. */
  readonly first?: (reply: Reply) => First;
  readonly last: (reply: Reply) => Last;
  /** Takes a session that the agent opens for this one; without it there must be none. */
  readonly accepted?: (session: Session<void, void>) => void;
  /** Explains a refusal to the caller. */
  readonly refused: (refusal: Refusal) => TsvmError;
}

/** Session that the agent opened for what was offered: a connection. */
export const ACCEPTED: Ask<void, void> = {
  request: new Uint8Array(0),
  outputs: { 1: 'bytes' },
  input: 'closes',
  last: () => {},
  refused: ({ error }) => new TsvmError('TSVM_AGENT', error.message),
};

/** Connection that carries a session. */
export interface Carrier {
  /** Sends a frame; `sent` is called when `payload` may be changed again. */
  send(type: number, session: number, detail: number, payload?: Uint8Array, sent?: () => void): void;
  /** Forgets a session that is over: what still comes for it is ignored. */
  forget(session: number): void;
  /** Ends the connection for a violation. Returns what its sessions are told. */
  violated(violation: Violation): TsvmError;
}

/** Session of the host's, or one of the agent's, which has no first reply and ends by a reply of the host's. */
export class Session<First, Last> implements InputTarget {
  readonly id: number;
  /** Settles with the first reply. */
  readonly first: Promise<First>;
  /** Settles with the last reply; output that came before it can still be read. */
  readonly last: Promise<Last>;
  readonly #carrier: Carrier;
  readonly #ask: Ask<First, Last>;
  readonly #first = new Settling<First>();
  readonly #last = new Settling<Last>();
  readonly #outputs: readonly (OutputStream | undefined)[];
  readonly #input: InputStream | undefined;
  #hadFirst = false;
  #over = false;
  /** Bytes that may be sent on the stream to the agent. */
  #room = WINDOW_BYTES;
  #sentEnd = false;
  /** Bytes that the agent may send, by stream. */
  readonly #windows = [0, WINDOW_BYTES, WINDOW_BYTES];
  /** Bytes that were read and have no credit yet, by stream. */
  readonly #uncredited = [0, 0, 0];
  readonly #ended = [true, false, false];

  constructor(carrier: Carrier, id: number, ask: Ask<First, Last>) {
    this.#carrier = carrier;
    this.id = id;
    this.#ask = ask;
    this.first = this.#first.promise;
    this.last = this.#last.promise;
    const output = (stream: OutputNumber): OutputStream | undefined => {
      const form = ask.outputs?.[stream];
      return form === undefined ? undefined : new OutputStream(form, (bytes) => this.#credit(stream, bytes));
    };
    this.#outputs = [undefined, output(STREAM.OUT), output(STREAM.ERROR)];
    this.#input = ask.input === undefined ? undefined : new InputStream(this);
  }

  get stdout(): OutputStream {
    return present(this.#outputs[STREAM.OUT]);
  }

  get stderr(): OutputStream {
    return present(this.#outputs[STREAM.ERROR]);
  }

  get input(): InputStream {
    return present(this.#input);
  }

  get room(): number {
    return this.#over ? 0 : this.#room;
  }

  send(bytes: Uint8Array, sent?: () => void): void {
    this.#room -= bytes.length;
    this.#carrier.send(FRAME.DATA, this.id, STREAM.IN, bytes, sent);
  }

  /** Sends zeros that take no room. What was written to the input before must have been sent. */
  sendHole(holeBytes: number): void {
    if (!this.#over) this.#carrier.send(FRAME.HOLE, this.id, STREAM.IN, number64(holeBytes));
  }

  sendEnd(): void {
    if (this.#over || this.#sentEnd) return;
    this.#carrier.send(FRAME.END, this.id, STREAM.IN);
    this.#sentEnd = true;
    this.#finishAccepted();
  }

  abandon(): void {
    if (this.#ask.input === 'ends') this.sendEnd();
    else this.close();
  }

  /** Sends fields to the operation under way. */
  control(...fields: readonly string[]): void {
    if (this.#over) return;
    const payload = Buffer.from(fields.map((field) => `${field}\0`).join(''));
    this.#carrier.send(FRAME.CONTROL, this.id, 0, payload);
  }

  /** Closes the session, whose promises and streams fail with `reason`. The agent gives the operation up, or leaves it to itself. */
  close(reason: unknown = new TsvmError('TSVM_STATE', 'the session was closed')): void {
    if (this.#over) return;
    if (this.id < AGENT_SESSION) this.#carrier.send(FRAME.CLOSE, this.id, 0);
    else this.#carrier.send(FRAME.REPLY, this.id, LAST, Buffer.from(`errno=${ERRNO.ECANCELED}\0`));
    this.fail(reason);
  }

  /** Ends the connection, because what came for this session breaks the protocol. Returns what the caller is told. */
  violated(violation: Violation): TsvmError {
    return this.#carrier.violated(violation);
  }

  /** Ends the session without a word to the agent. */
  fail(reason: unknown): void {
    if (this.#over) return;
    this.#end();
    const error = reason instanceof Error ? reason : undefined;
    for (const output of this.#outputs) if (output?.readableEnded === false) output.destroy(error);
    this.#input?.destroy(error);
    this.#first.reject(reason);
    this.#last.reject(reason);
  }

  /** Takes a session that the agent opens for this one. @throws Violation if there can be none. */
  accept(session: Session<void, void>): void {
    if (this.#ask.accepted === undefined) throw new Violation('a session for one that offers nothing');
    this.#ask.accepted(session);
  }

  /** Takes a frame of the agent's. @throws Violation */
  take(type: number, detail: number, payload: Buffer): void {
    const isHosts = this.id < AGENT_SESSION;
    if (type === FRAME.DATA) this.#takeData(detail, payload);
    else if (type === FRAME.HOLE) this.#open(detail).takeHole(holeBytes(payload));
    else if (type === FRAME.END) this.#takeEnd(detail);
    else if (type === FRAME.CREDIT) this.#takeCredit(payload.readUInt32LE());
    else if (type === FRAME.REPLY && isHosts) this.#takeReply(new Reply(payload), detail === LAST);
    else if (type === FRAME.CLOSE && !isHosts)
      this.fail(new TsvmError('TSVM_AGENT', 'the connection was closed on the other side'));
    else throw new Violation(`a frame of type ${type} for session ${this.id}`);
  }

  #takeData(stream: number, bytes: Buffer): void {
    const output = this.#open(stream);
    const window = (this.#windows[stream] ?? 0) - bytes.length;
    if (window < 0) throw new Violation('data beyond the window of its stream');
    this.#windows[stream] = window;
    output.takeBytes(bytes);
  }

  #takeEnd(stream: number): void {
    const output = this.#open(stream);
    this.#ended[stream] = true;
    output.takeEnd();
    this.#finishAccepted();
  }

  #takeCredit(bytes: number): void {
    if (this.#input === undefined) throw new Violation('a credit for a stream that is none');
    if (bytes === 0 || this.#room + bytes > MAX_WINDOW_BYTES)
      throw new Violation(`a credit of ${bytes} bytes`);
    this.#room += bytes;
    this.#input.offerRoom();
  }

  #takeReply(reply: Reply, isLast: boolean): void {
    const refusal = refusalOf(reply);
    if (!isLast) {
      if (this.#hadFirst || refusal !== undefined)
        throw new Violation('a reply that is neither first nor last');
      this.#readFirst(reply);
      return;
    }
    if (refusal !== undefined) {
      this.fail(this.#ask.refused(refusal));
      return;
    }
    if (!this.#hadFirst && this.#ask.first !== undefined)
      throw new Violation('a last reply before the first');
    const value = this.#ask.last(reply);
    this.#end();
    for (const output of this.#outputs) output?.takeEnd();
    this.#input?.destroy();
    this.#last.resolve(value);
  }

  #readFirst(reply: Reply): void {
    if (this.#ask.first === undefined) throw new Violation('a first reply where there is none');
    const value = this.#ask.first(reply);
    this.#hadFirst = true;
    this.#first.resolve(value);
  }

  /** Output that takes something now. @throws Violation if there is none, or it is at its end. */
  #open(stream: number): OutputStream {
    const output = this.#outputs[stream];
    if (output === undefined || this.#ended[stream] !== false)
      throw new Violation(`data of stream ${stream}, which is none or at its end`);
    return output;
  }

  #credit(stream: OutputNumber, bytes: number): void {
    const uncredited = (this.#uncredited[stream] ?? 0) + bytes;
    const sends = uncredited >= CREDIT_STEP_BYTES && !this.#over && this.#ended[stream] === false;
    this.#uncredited[stream] = sends ? 0 : uncredited;
    if (!sends) return;
    this.#windows[stream] = (this.#windows[stream] ?? 0) + uncredited;
    this.#carrier.send(FRAME.CREDIT, this.id, stream, number32(uncredited));
  }

  /** Ends a session of the agent's when both of its directions are at their end. */
  #finishAccepted(): void {
    if (this.id < AGENT_SESSION || !this.#sentEnd || this.#ended[STREAM.OUT] !== true || this.#over) return;
    this.#carrier.send(FRAME.REPLY, this.id, LAST);
    this.#end();
    this.#last.resolve(this.#ask.last(new Reply(Buffer.alloc(0))));
  }

  #end(): void {
    this.#over = true;
    this.#carrier.forget(this.id);
  }
}

/** Promise that is settled from outside, and whose rejection nobody has to hear. */
class Settling<T> {
  readonly promise: Promise<T>;
  #resolve: (value: unknown) => void = () => {};
  #reject: (reason: unknown) => void = () => {};

  constructor() {
    this.promise = new Promise<unknown>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    }) as Promise<T>;
    this.promise.catch(() => {});
  }

  resolve(value: T): void {
    this.#resolve(value);
  }

  reject(reason: unknown): void {
    this.#reject(reason);
  }
}

function holeBytes(payload: Buffer): number {
  const bytes = Number(payload.readBigUInt64LE());
  if (bytes === 0 || !Number.isSafeInteger(bytes)) throw new Violation(`a hole of ${bytes} bytes`);
  return bytes;
}

function present<T>(stream: T | undefined): T {
  if (stream === undefined) throw new TypeError('the operation has no such stream');
  return stream;
}
