/** File that a file system is written into, mostly from front to back. */
import type { FileHandle } from 'node:fs/promises';
import { isErrnoError, TsvmError } from '../../../errors.js';
import { describeFileError } from '../../../host/files.js';
import { MIB } from '../../../util/units.js';

/** Length of one write: what follows the last one waits for more. */
const BUFFER_BYTES = MIB;
const ZEROS = 64 * 1024;

export class BlockFile {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  readonly #zeros = Buffer.alloc(ZEROS);
  #start = 0;
  #length = 0;

  constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Writes at an offset. @throws TsvmError `TSVM_HOST` that names the file, as all methods. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (offset !== this.#start + this.#length || this.#length + bytes.length > BUFFER_BYTES) {
      await this.flush();
      this.#start = offset;
    }
    if (bytes.length > BUFFER_BYTES) return await this.#put(offset, bytes);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  async writeZeros(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += ZEROS)
      await this.write(offset + at, this.#zeros.subarray(0, Math.min(ZEROS, length - at)));
  }

  async read(offset: number, length: number): Promise<Buffer> {
    await this.flush();
    const { buffer, bytesRead } = await this.#try(() =>
      this.#file.read(Buffer.alloc(length), 0, length, offset),
    );
    return buffer.subarray(0, bytesRead);
  }

  async flush(): Promise<void> {
    const length = this.#length;
    this.#length = 0;
    await this.#put(this.#start, this.#buffer.subarray(0, length));
  }

  /** Ends the file at a length. */
  async end(length: number): Promise<void> {
    await this.flush();
    await this.#try(() => this.#file.truncate(length));
  }

  async #put(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await this.#try(() =>
        this.#file.write(bytes, at, bytes.length - at, offset + at),
      );
      at += bytesWritten;
    }
  }

  async #try<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (cause) {
      if (!isErrnoError(cause)) throw cause;
      throw new TsvmError('TSVM_HOST', `cannot write ${this.#path}: ${describeFileError(cause)}`, {
        hint: 'make room, or set TSVM_IMAGE_DIR to a folder with room',
        cause,
      });
    }
  }
}
