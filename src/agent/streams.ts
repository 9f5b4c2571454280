/** Streams of a session as Node's, with the protocol's credits as their back-pressure. */
import { Readable, Writable } from 'node:stream';
import { Backlog } from '../util/backlog.js';
import { MAX_PAYLOAD_BYTES, WINDOW_BYTES } from './protocol.js';
import { Violation } from './violation.js';

/** Pieces shorter than this are copied: a slice keeps all that was read with it. */
const SLICE_BYTES = 4096;
/** Bound of the holes that wait in a stream: a file system has none between fewer than 512 bytes of data. */
const MAX_WAITING_HOLES = WINDOW_BYTES / 512;

/** Zeros of a file that take no room. */
export interface Hole {
  readonly holeBytes: number;
}

/** Form of an output: bytes, or pieces that are bytes or a {@link Hole}. */
export type OutputForm = 'bytes' | 'pieces';

/**
 * Stream from the agent. It is told of a credit for what its reader has taken, so that no more than a window waits here; what waits takes
 * as much memory as its bytes, however small the frames were. A reader that destroys it takes everything from there on.
 */
export class OutputStream extends Readable {
  readonly #form: OutputForm;
  readonly #credit: (bytes: number) => void;
  readonly #waiting: (Backlog | Hole)[] = [];
  #holes = 0;
  #wanted = false;
  #end: 'open' | 'come' | 'told' = 'open';

  constructor(form: OutputForm, credit: (bytes: number) => void) {
    // One piece at a time is within Node's stream; the others wait here.
    super({ objectMode: form === 'pieces', highWaterMark: 1 });
    this.#form = form;
    this.#credit = credit;
    // Nobody has to listen for the connection's end: what is read fails with it, and so does the session.
    this.on('error', () => {});
  }

  /** Takes bytes of the agent's, which are within the window. */
  takeBytes(bytes: Buffer): void {
    if (this.destroyed) this.#credit(bytes.length);
    else if (this.#wanted && this.#waiting.length === 0)
      this.#give(bytes.length < SLICE_BYTES ? Buffer.from(bytes) : bytes);
    else this.#keep(bytes);
  }

  /** Takes a hole. @throws Violation if the stream has none, or more than a file can have. */
  takeHole(holeBytes: number): void {
    if (this.#form === 'bytes') throw new Violation('a hole in a stream of bytes');
    if (this.destroyed) return;
    const last = this.#waiting.at(-1);
    if (last instanceof Backlog || last === undefined) {
      if (this.#wanted && last === undefined) {
        this.#give({ holeBytes });
        return;
      }
      if (++this.#holes > MAX_WAITING_HOLES) throw new Violation('more holes than a file has');
      this.#waiting.push({ holeBytes });
    } else {
      const sum = last.holeBytes + holeBytes;
      if (!Number.isSafeInteger(sum)) throw new Violation('a hole larger than a file');
      this.#waiting[this.#waiting.length - 1] = { holeBytes: sum };
    }
  }

  /** Takes the end: nothing follows. */
  takeEnd(): void {
    if (this.#end === 'open') this.#end = 'come';
    this.#flow();
  }

  override _read(): void {
    this.#wanted = true;
    this.#flow();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const waiting = this.#waiting
      .splice(0)
      .reduce((sum, piece) => sum + (piece instanceof Backlog ? piece.length : 0), 0);
    if (waiting > 0) this.#credit(waiting);
    done(error);
  }

  #keep(bytes: Buffer): void {
    let last = this.#waiting.at(-1);
    if (!(last instanceof Backlog)) {
      last = new Backlog(WINDOW_BYTES);
      this.#waiting.push(last);
    }
    last.push(bytes);
  }

  #flow(): void {
    while (this.#wanted) {
      const piece = this.#waiting.shift();
      if (piece === undefined) break;
      if (piece instanceof Backlog) {
        const bytes = piece.take();
        this.#give(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
      } else {
        this.#holes--;
        this.#give(piece);
      }
    }
    if (this.#end !== 'come' || this.#waiting.length > 0) return;
    this.#end = 'told';
    this.push(null);
  }

  #give(piece: Buffer | Hole): void {
    if (Buffer.isBuffer(piece)) this.#credit(piece.length);
    this.#wanted = false;
    if (this.push(piece)) this.#wanted = true;
  }
}

/** Session that an {@link InputStream} sends to. */
export interface InputTarget {
  /** Bytes that may be sent without a further credit. */
  readonly room: number;
  /** Sends bytes, no more than `room` and a payload; `sent` is called when they may be changed again. */
  send(bytes: Uint8Array, sent?: () => void): void;
  sendEnd(): void;
  /** The stream was destroyed before its end. */
  abandon(): void;
}

/** Stream to the agent. A write is done when its bytes have left this process; what has no credit waits in the writer's own memory. */
export class InputStream extends Writable {
  readonly #target: InputTarget;
  /** Bytes of the write under way that have no credit yet. */
  #left: Uint8Array = new Uint8Array(0);
  #done: ((error?: Error) => void) | undefined;
  #sentEnd = false;

  constructor(target: InputTarget) {
    super();
    this.#target = target;
    this.on('error', () => {});
  }

  /** Goes on after a credit. */
  offerRoom(): void {
    while (this.#left.length > 0 && this.#target.room > 0) {
      const piece = this.#left.subarray(0, Math.min(this.#target.room, MAX_PAYLOAD_BYTES));
      this.#left = this.#left.subarray(piece.length);
      this.#target.send(piece, this.#left.length === 0 ? () => this.#settle() : undefined);
    }
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    if (chunk.length === 0) {
      done();
      return;
    }
    this.#left = chunk;
    this.#done = done;
    this.offerRoom();
  }

  override _final(done: () => void): void {
    this.#sentEnd = true;
    this.#target.sendEnd();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#left = new Uint8Array(0);
    if (!this.#sentEnd) this.#target.abandon();
    this.#settle(error ?? Object.assign(new Error('nobody reads it any more'), { code: 'EPIPE' }));
    done(error);
  }

  #settle(error?: Error): void {
    const done = this.#done;
    this.#done = undefined;
    done?.(error);
  }
}
