/** I/O on an open file by threads of its own: what waits for a slow disk does not wait in libuv's pool. */
import { constants as osConstants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type { NativeAddon, NativeDiskIo } from '../native/binding.js';
import { KIB } from '../util/units.js';
import { totalBytes } from './transfer.js';

/** As many as libuv's pool has: a disk that hangs keeps so many, and no other's. They end when it rests. */
const THREADS = 4;

/** What is copied out of the page cache on the calling thread: some 10 microseconds of it. */
const MAX_CACHED_BYTES = 128 * KIB;

interface Pending {
  readonly syscall: string;
  readonly resolve: (result: number) => void;
  readonly reject: (error: Error) => void;
  /** Alive until the threads have done with them. */
  readonly buffers: readonly Uint8Array[];
}

const { EOPNOTSUPP } = osConstants.errno;
const NONE: readonly Uint8Array[] = [];

export class DiskIo {
  readonly #native: NativeDiskIo;
  /** By the id that the addon has; ids are used again. */
  readonly #pending: (Pending | undefined)[] = [];
  readonly #free: number[] = [];
  /** Until the file system says that it cannot tell. */
  #triesCache = true;

  /** Does not close `fd`. */
  constructor(addon: Pick<NativeAddon, 'openDiskIo'>, fd: number) {
    this.#native = addon.openDiskIo(fd, THREADS, (results) => this.#done(results));
  }

  readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    const length = totalBytes(buffers);
    if (this.#triesCache && length <= MAX_CACHED_BYTES) {
      const result = this.#native.tryRead(buffers, offset);
      if (result === length) return Promise.resolve(result);
      if (result === -EOPNOTSUPP) this.#triesCache = false;
    }
    return this.#wait('preadv', buffers, (id) => this.#native.submit(id, 'read', buffers, offset));
  }

  writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#wait('pwritev', buffers, (id) => this.#native.submit(id, 'write', buffers, offset));
  }

  async datasync(): Promise<void> {
    await this.#wait('fdatasync', NONE, (id) => this.#native.submit(id, 'sync'));
  }

  async fallocate(mode: number, offset: number, length: number): Promise<void> {
    await this.#wait('fallocate', NONE, (id) => this.#native.submit(id, 'allocate', mode, offset, length));
  }

  /** Nothing may be in flight. */
  close(): void {
    this.#native.close();
  }

  #wait(syscall: string, buffers: readonly Uint8Array[], submit: (id: number) => void): Promise<number> {
    return new Promise((resolve, reject) => {
      const id = this.#free.pop() ?? this.#pending.length;
      this.#pending[id] = { syscall, resolve, reject, buffers };
      submit(id);
    });
  }

  /** @param results an id and what its system call returned, or its errno negated, for each that has ended */
  #done(results: Float64Array): void {
    for (let i = 0; i < results.length; i += 2) {
      const id = results[i] as number;
      const result = results[i + 1] as number;
      const pending = this.#pending[id];
      this.#pending[id] = undefined;
      this.#free.push(id);
      if (result >= 0) pending?.resolve(result);
      else pending?.reject(errnoError(result, pending.syscall));
    }
  }
}

function errnoError(errno: number, syscall: string): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}, ${syscall}`), { code, errno, syscall });
}
