/** Files that images come in. One is opened once, and what is compared with its digest is what is unpacked: its name may lead elsewhere by then. */
import { createHash, type Hash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { TsvmError } from '../errors.js';
import { describeFileError, openChecked } from '../host/files.js';
import { imageError } from './image-error.js';

/** Length of one read. */
const PIECE_BYTES = 256 << 10;
const MAGIC_BYTES = 512;

/** Place of bytes: a file, or a range of one, as a member of an archive that is not compressed. */
export interface BlobPlace {
  readonly path: string;
  /** Digest of the bytes, which is compared whenever all of them have been read. */
  readonly digest?: string | undefined;
  /** Offset of the first byte; default: 0. */
  readonly start?: number;
  /** Length; default: all that follows. */
  readonly bytes?: number;
  /** Name of the range in the file, for messages. */
  readonly member?: string;
  /** Identity of the file when the place was found; another file of the name is refused. */
  readonly identity?: string;
  /** Abort of every reading of it. */
  readonly signal?: AbortSignal | undefined;
}

/** Reading from the start to the end: every byte that is handed out is hashed. */
interface Reading {
  readonly hash: Hash;
  /** Offset in the blob. */
  position: number;
  /** Piece that is being read. */
  piece: Promise<Uint8Array | undefined>;
}

export class Blob implements AsyncDisposable {
  readonly path: string;
  /** Name for messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Facts of the file when it was opened. */
  readonly stats: Stats;
  readonly #file: FileHandle;
  readonly #start: number;
  readonly digest: string | undefined;
  readonly #signal: AbortSignal | undefined;
  #reading: Reading | undefined;

  private constructor(place: BlobPlace, file: FileHandle, stats: Stats) {
    const { path, member, digest, start = 0, bytes, identity, signal } = place;
    this.path = path;
    this.name = member === undefined ? path : `${path}: ${member}`;
    this.#file = file;
    this.stats = stats;
    this.#start = start;
    this.digest = digest;
    this.#signal = signal;
    if (identity !== undefined && identity !== identityOf(stats))
      throw imageError(`${this.name}: it was changed meanwhile`, 'try again when it is written');
    const rest = stats.size - start;
    this.sizeBytes = bytes ?? rest;
    if (rest < this.sizeBytes || rest < 0) throw imageError(`${this.name}: it is cut short`, hintOf(digest));
  }

  /**
   * Opens a regular file, or a range of one.
   *
   * @throws TsvmError `TSVM_IMAGE` that names the file.
   */
  static async open(place: BlobPlace): Promise<Blob> {
    const { path, digest } = place;
    const hint = hintOf(digest);
    let file: FileHandle | undefined;
    try {
      file = await openChecked(path, constants.O_RDONLY, (stats) => {
        if (!stats.isFile()) throw imageError(`${path}: it is not a file`, hint);
      });
      return new Blob(place, file, await file.stat());
    } catch (cause) {
      await file?.close();
      if (cause instanceof TsvmError) throw cause;
      throw imageError(`${path}: ${describeFileError(cause)}`, hint, cause);
    }
  }

  /** Reads the first bytes, by which a format is known. */
  async magic(): Promise<Uint8Array> {
    return await this.slice(0, Math.min(MAGIC_BYTES, this.sizeBytes));
  }

  /** Reads a part of it, which is compared with no digest. */
  async slice(offset: number, length: number): Promise<Uint8Array> {
    const { buffer, bytesRead } = await this.#file.read(
      Buffer.alloc(length),
      0,
      length,
      this.#start + offset,
    );
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
    if (reading === undefined || this.digest === undefined) return;
    while ((await this.#next(reading)) !== undefined);
    await this.#check(reading);
  }

  /** Reads the next piece, one at a time: a reader that goes away may leave one that is under way. */
  #next(reading: Reading): Promise<Uint8Array | undefined> {
    reading.piece = reading.piece.then(async () => {
      this.#signal?.throwIfAborted();
      const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, this.sizeBytes - reading.position));
      const from = this.#start + reading.position;
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, from);
      if (bytesRead === 0) return undefined;
      reading.position += bytesRead;
      const piece = buffer.subarray(0, bytesRead);
      reading.hash.update(piece);
      return piece;
    });
    return reading.piece;
  }

  async #check({ hash }: Reading): Promise<void> {
    if (this.digest !== undefined && `sha256:${hash.copy().digest('hex')}` !== this.digest) {
      throw imageError(
        `${this.name}: its content does not have the digest that is its name`,
        hintOf(this.digest),
      );
    }
    const { size, mtimeMs } = await this.#file.stat();
    if (size !== this.stats.size || mtimeMs !== this.stats.mtimeMs) {
      throw imageError(`${this.name}: it was changed while it was read`, 'try again when it is written');
    }
  }

  /** Reads all of it, if it is not longer than `maxBytes`. */
  async read(maxBytes: number): Promise<Buffer> {
    if (this.sizeBytes > maxBytes) throw imageError(`${this.name}: it is longer than ${maxBytes} bytes`);
    const pieces: Uint8Array[] = [];
    for await (const piece of this.pieces()) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** Identity of a file's content, as far as it can be told without reading it. */
export function identityOf({ dev, ino, size, mtimeMs, ctimeMs }: Stats): string {
  return [dev, ino, size, mtimeMs, ctimeMs].join(' ');
}

function hintOf(digest: string | undefined): string {
  return digest === undefined ? 'check the path' : 'the image is not whole: copy it again';
}
