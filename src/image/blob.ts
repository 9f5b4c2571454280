/** Files that images come in. One is opened once, and what is compared with its digest is what is unpacked: its name may lead elsewhere by then. */
import { createHash, type Hash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { TsvmError } from '../errors.js';
import { openChecked } from '../host/files.js';
import { imageError } from './image-error.js';

/** Length of one read. */
const PIECE_BYTES = 256 << 10;
const MAGIC_BYTES = 512;

/** One reading from the start to the end: every byte that is handed out is hashed. */
interface Reading {
  readonly hash: Hash;
  position: number;
  /** Piece that is being read. */
  piece: Promise<Uint8Array | undefined>;
}

export class Blob implements AsyncDisposable {
  readonly path: string;
  /** Facts of the file when it was opened. */
  readonly stats: Stats;
  readonly #file: FileHandle;
  readonly #digest: string | undefined;
  readonly #signal: AbortSignal | undefined;
  #reading: Reading | undefined;

  private constructor(
    path: string,
    file: FileHandle,
    stats: Stats,
    digest: string | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.path = path;
    this.#file = file;
    this.stats = stats;
    this.#digest = digest;
    this.#signal = signal;
  }

  /**
   * Opens a regular file.
   *
   * @param digest - of its content, which is compared whenever all of it has been read
   * @param signal - abort of every reading of it
   * @throws TsvmError `TSVM_IMAGE` that names the file.
   */
  static async open(path: string, digest?: string, signal?: AbortSignal): Promise<Blob> {
    const hint = digest === undefined ? 'check the path' : 'the layout is not whole: copy it again';
    let file: FileHandle | undefined;
    try {
      file = await openChecked(path, constants.O_RDONLY, (stats) => {
        if (!stats.isFile()) throw imageError(`${path}: it is not a file`, hint);
      });
      return new Blob(path, file, await file.stat(), digest, signal);
    } catch (cause) {
      await file?.close();
      if (cause instanceof TsvmError) throw cause;
      throw imageError(`${path}: ${(cause as { code?: string }).code}`, hint, cause);
    }
  }

  /** Throws the reason of the abort, if its reading was aborted: whatever failed then failed of that. */
  throwIfAborted(): void {
    this.#signal?.throwIfAborted();
  }

  /** Reads the first bytes, by which a format is known. */
  async magic(): Promise<Uint8Array> {
    const { buffer, bytesRead } = await this.#file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  }

  /** Reads all of it, from the start. Whoever reads to the end has what the digest says. @throws TsvmError if it has changed. */
  async *pieces(): AsyncGenerator<Uint8Array> {
    const reading: Reading = { hash: createHash('sha256'), position: 0, piece: Promise.resolve(undefined) };
    this.#reading = reading;
    for (let piece = await this.#next(reading); piece !== undefined; piece = await this.#next(reading))
      yield piece;
    await this.#check(reading);
  }

  /** Reads what the last reader of {@link pieces} left, so that it is known what that one had. @throws TsvmError if it has changed. */
  async finish(): Promise<void> {
    const reading = this.#reading;
    if (reading === undefined || this.#digest === undefined) return;
    while ((await this.#next(reading)) !== undefined);
    await this.#check(reading);
  }

  /** One at a time: a reader that goes away may leave one that is under way. */
  #next(reading: Reading): Promise<Uint8Array | undefined> {
    reading.piece = reading.piece.then(async () => {
      this.throwIfAborted();
      const buffer = Buffer.allocUnsafe(PIECE_BYTES);
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, reading.position);
      if (bytesRead === 0) return undefined;
      reading.position += bytesRead;
      const piece = buffer.subarray(0, bytesRead);
      reading.hash.update(piece);
      return piece;
    });
    return reading.piece;
  }

  async #check({ hash }: Reading): Promise<void> {
    if (this.#digest !== undefined && `sha256:${hash.copy().digest('hex')}` !== this.#digest) {
      throw imageError(
        `${this.path}: its content does not have the digest that is its name`,
        'copy the layout again',
      );
    }
    const { size, mtimeMs } = await this.#file.stat();
    if (size !== this.stats.size || mtimeMs !== this.stats.mtimeMs) {
      throw imageError(`${this.path}: it was changed while it was read`, 'try again when it is written');
    }
  }

  /** Reads all of it, if it is not longer than `maxBytes`. */
  async read(maxBytes: number): Promise<Buffer> {
    if (this.stats.size > maxBytes) throw imageError(`${this.path}: it is longer than ${maxBytes} bytes`);
    const pieces: Uint8Array[] = [];
    for await (const piece of this.pieces()) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
