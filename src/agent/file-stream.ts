/** Files of the agent's as streams of Node's. */
import { Readable, Writable } from 'node:stream';
import { type AnySession, toldOf } from './ask-agent.js';
import type { Hole } from './streams.js';
import { Violation } from './violation.js';

/** Zeros that a hole is given as, piece by piece. */
const ZEROS_BYTES = 64 * 1024;

/** Piece of a file: bytes, or a hole. */
export type FilePiece = Uint8Array | Hole;

/** Reader of a session's pieces, of no more than `most` bytes, holes as zeros. */
export async function* withZeros(pieces: AsyncIterable<FilePiece>, most: number): AsyncGenerator<Buffer> {
  const zeros = Buffer.alloc(ZEROS_BYTES);
  for await (const piece of bounded(pieces, most)) {
    if ('holeBytes' in piece) {
      for (let left = piece.holeBytes; left > 0; left -= ZEROS_BYTES)
        yield left < ZEROS_BYTES ? zeros.subarray(0, left) : zeros;
    } else yield piece as Buffer;
  }
}

/** @throws Violation for more than was asked for */
export async function* bounded(pieces: AsyncIterable<FilePiece>, most: number): AsyncGenerator<FilePiece> {
  let left = most;
  for await (const piece of pieces) {
    left -= 'holeBytes' in piece ? piece.holeBytes : piece.length;
    if (left < 0) throw new Violation('more of a file than was asked for');
    yield piece;
  }
}

/** File that is read while somebody reads the stream. Destroyed, it ends the session. */
export class FileReadStream extends Readable {
  readonly #open: () => Promise<AnySession>;
  readonly #most: number;
  #session: AnySession | undefined;
  #pieces: AsyncGenerator<Buffer> | undefined;

  constructor(open: () => Promise<AnySession>, most: number) {
    super();
    this.#open = open;
    this.#most = most;
  }

  override _construct(done: (error?: Error | null) => void): void {
    this.#open().then(
      (session) => {
        this.#session = session;
        if (this.destroyed) session.close();
        this.#pieces = withZeros(session.stdout, this.#most);
        done();
      },
      (error: Error) => done(error),
    );
  }

  override _read(): void {
    this.#next().then(
      (bytes) => this.push(bytes),
      (error: Error) => this.#fail(error),
    );
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#session?.close(error ?? undefined);
    done(error);
  }

  #fail(error: Error): void {
    this.destroy((this.#session === undefined ? error : toldOf(this.#session, error)) as Error);
  }

  async #next(): Promise<Buffer | null> {
    const next = await this.#pieces?.next();
    if (next?.done === false) return next.value;
    await this.#session?.last;
    return null;
  }
}

/** File that is written. It is finished when all is in the file; destroyed before that, it ends the session. */
export class FileWriteStream extends Writable {
  readonly #open: () => Promise<AnySession>;
  #session: AnySession | undefined;

  constructor(open: () => Promise<AnySession>) {
    super();
    this.#open = open;
  }

  override _construct(done: (error?: Error | null) => void): void {
    this.#open().then(
      (session) => {
        this.#session = session;
        // A refusal is heard at once, and not with the next piece.
        session.last.catch((error: Error) => this.destroy(error));
        done();
      },
      (error: Error) => done(error),
    );
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#session !== undefined) sendPiece(this.#session, chunk).then(() => done(), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#session?.input.end();
    this.#session?.last.then(() => done(), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#session?.close(error ?? undefined);
    done(error);
  }
}

/** Sends a piece of a file; settles when it has left this process. If the operation has failed, that is the error. */
export async function sendPiece(session: AnySession, piece: FilePiece): Promise<void> {
  if ('holeBytes' in piece) {
    if (piece.holeBytes > 0) session.sendHole(piece.holeBytes);
    return;
  }
  const { input } = session;
  try {
    await new Promise<void>((resolve, reject) => {
      input.write(piece, (error) => (error === undefined || error === null ? resolve() : reject(error)));
    });
  } catch (error) {
    await session.last;
    throw error;
  }
}
