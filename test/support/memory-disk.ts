/** A disk in memory whose I/O ends when the test says so, and fails how the test says. */
import type { BlockBackend } from '../../src/devices/host.js';

export interface MemoryDiskOptions {
  readonly sizeBytes?: number;
  readonly readOnly?: boolean;
  /** Leave out discard, write-zeroes and resizing. */
  readonly plain?: boolean;
}

export class MemoryDisk implements BlockBackend {
  bytes: Uint8Array;
  readonly readOnly: boolean;
  readonly resize?: NonNullable<BlockBackend['resize']>;
  readonly discard?: NonNullable<BlockBackend['discard']>;
  readonly writeZeroes?: NonNullable<BlockBackend['writeZeroes']>;
  /** Calls so far, as text. */
  readonly log: string[] = [];
  /** Hold every operation until `release()`. */
  held = false;
  /** Error that the next operations fail with. */
  failure: Error | undefined;
  /** Bytes that the next transfers are short by. */
  shortBytes = 0;
  closed = false;
  readonly #waiting: (() => void)[] = [];

  constructor(options: MemoryDiskOptions = {}) {
    this.bytes = new Uint8Array(options.sizeBytes ?? 64 * 1024);
    this.readOnly = options.readOnly ?? false;
    if (options.plain !== true) {
      this.resize = (sizeBytes) =>
        this.#do(`resize ${sizeBytes}`, () => {
          const bytes = new Uint8Array(sizeBytes);
          bytes.set(this.bytes);
          this.bytes = bytes;
        });
      this.discard = (offset, length) => this.#do(`discard ${offset}+${length}`, () => {});
      this.writeZeroes = (offset, length, mayUnmap) =>
        this.#do(
          `zero ${offset}+${length} ${mayUnmap}`,
          () => void this.bytes.fill(0, offset, offset + length),
        );
    }
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#do(`read ${offset}+${total(buffers)}`, () => {
      let at = offset;
      for (const buffer of buffers) {
        buffer.set(this.bytes.subarray(at, at + buffer.length));
        at += buffer.length;
      }
      return at - offset - this.shortBytes;
    });
  }

  writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#do(`write ${offset}+${total(buffers)}`, () => {
      let at = offset;
      for (const buffer of buffers) {
        this.bytes.set(buffer, at);
        at += buffer.length;
      }
      return at - offset - this.shortBytes;
    });
  }

  flush(): Promise<void> {
    return this.#do('flush', () => {});
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  /** Lets `count` of the held operations end, oldest first. */
  async release(count = Number.POSITIVE_INFINITY): Promise<void> {
    for (const end of this.#waiting.splice(0, Math.min(count, this.#waiting.length))) end();
    await settle();
  }

  /** Sets the oldest of the held operations aside: it ends when the returned function is called. */
  setAside(): () => void {
    return this.#waiting.shift() ?? (() => {});
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  async #do<T>(entry: string, operation: () => T): Promise<T> {
    this.log.push(entry);
    const { failure } = this;
    if (this.held) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (failure !== undefined) throw failure;
    return operation();
  }
}

function total(buffers: readonly Uint8Array[]): number {
  return buffers.reduce((sum, buffer) => sum + buffer.length, 0);
}

/** Lets everything happen that needs no more than the event loop. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}
