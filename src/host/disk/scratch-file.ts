/** A sparse file in memory, without a name: what copy-on-write layers keep their clusters in. */
import { close, ftruncateSync, readv, writev } from 'node:fs';
import { promisify } from 'node:util';
import type { NativeAddon } from '../../native/binding.js';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from './fallocate.js';
import { wholeTransfer } from './transfer.js';

/** Part of the addon that scratch files need. */
export type ScratchMaker = Pick<NativeAddon, 'memfd' | 'fallocate'>;

const readvFd = promisify(readv);
const writevFd = promisify(writev);
const closeFd = promisify(close);

/** Made at the first write: a layer that nothing is written to has no descriptor and no memory. */
export class ScratchFile {
  readonly #maker: ScratchMaker;
  readonly #sizeBytes: number;
  #fd: number | undefined;

  constructor(maker: ScratchMaker, sizeBytes: number) {
    this.#maker = maker;
    this.#sizeBytes = sizeBytes;
  }

  /** Reads; what was never written is zeroes. */
  async readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    const fd = this.#fd;
    if (fd !== undefined) {
      return await wholeTransfer(
        buffers,
        offset,
        async (rest, at) => (await readvFd(fd, rest, at)).bytesRead,
      );
    }
    let done = 0;
    for (const buffer of buffers) {
      buffer.fill(0);
      done += buffer.length;
    }
    return done;
  }

  async writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    this.#fd ??= this.#create();
    const fd = this.#fd;
    return await wholeTransfer(
      buffers,
      offset,
      async (rest, at) => (await writevFd(fd, rest, at)).bytesWritten,
    );
  }

  /** The range reads as zeroes, and takes no memory any more. */
  async punch(offset: number, length: number): Promise<void> {
    if (this.#fd === undefined) return;
    await this.#maker.fallocate(this.#fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  }

  /** Nothing may be in flight. */
  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) await closeFd(fd);
  }

  #create(): number {
    const fd = this.#maker.memfd('tsvm-disk');
    try {
      ftruncateSync(fd, this.#sizeBytes);
    } catch (error) {
      close(fd);
      throw error;
    }
    return fd;
  }
}
