/** I/O on an open file by threads of its own: what waits for a slow disk does not wait in libuv's pool. */
import type { NativeAddon, NativeDiskIo } from '../../native/binding.js';
import { IoCalls } from '../io-calls.js';

/** Threads of a disk, as many as libuv's pool has: one that hangs keeps so many, and no other's. They end when it rests. */
const THREADS = 4;

const NONE: readonly Uint8Array[] = [];

export class DiskIo {
  readonly #native: NativeDiskIo;
  readonly #calls = new IoCalls();

  /** Does not close `fd`. */
  constructor(addon: Pick<NativeAddon, 'openDiskIo'>, fd: number) {
    this.#native = addon.openDiskIo(fd, THREADS, (results) => this.#calls.done(results));
  }

  readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#calls.read(
      buffers,
      () => this.#native.tryRead(buffers, offset),
      () => this.#calls.wait('preadv', buffers, (id) => this.#native.submit(id, 'read', buffers, offset)),
    );
  }

  writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#calls.wait('pwritev', buffers, (id) => this.#native.submit(id, 'write', buffers, offset));
  }

  async datasync(): Promise<void> {
    await this.#calls.wait('fdatasync', NONE, (id) => this.#native.submit(id, 'sync'));
  }

  async fallocate(mode: number, offset: number, length: number): Promise<void> {
    await this.#calls.wait('fallocate', NONE, (id) =>
      this.#native.submit(id, 'allocate', mode, offset, length),
    );
  }

  /** Ends the threads. Nothing may be in flight. */
  close(): void {
    this.#native.close();
  }
}
