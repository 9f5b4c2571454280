/** Output of a machine's console, in a file of bounded size and for those who listen. */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { Backlog } from '../../util/backlog.js';
import { LastBytes } from '../../util/last-bytes.js';

/** Bound of the file; the one before it is kept as well, as `.1`. */
const MAX_FILE_BYTES = 1 << 20;
/** Bytes that a disk that is too slow may owe before output is left out of the log: the guest never waits for it. */
const MAX_PENDING_BYTES = 4 << 20;
/** Length of the output that one who comes later is shown first. */
const TAIL_BYTES = 64 << 10;

export class ConsoleLog {
  readonly #path: string | undefined;
  readonly #maxFileBytes: number;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  readonly #pending = new Backlog(MAX_PENDING_BYTES);
  #lostBytes = 0;
  #writing: Promise<void> | undefined;
  readonly #tail = new LastBytes(TAIL_BYTES);
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();

  /** @param path - of the file; none: for those who listen only */
  constructor(path?: string, maxFileBytes = MAX_FILE_BYTES) {
    this.#path = path;
    this.#maxFileBytes = maxFileBytes;
  }

  push(bytes: Uint8Array): void {
    this.#tail.push(bytes);
    for (const listener of this.#listeners) listener(bytes);
    if (this.#path === undefined) return;
    if (!this.#pending.push(bytes)) {
      this.#lostBytes += bytes.length;
      return;
    }
    this.#writing ??= this.#write(this.#path).finally(() => {
      this.#writing = undefined;
    });
  }

  /** The last that was said, up to 64 KiB. */
  get tail(): Uint8Array {
    return this.#tail.bytes;
  }

  /** Calls `listener` with all that is said from now on. */
  listen(listener: (bytes: Uint8Array) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Resolves when all that was said is in the file. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async close(): Promise<void> {
    await this.settled();
    await this.#file?.close();
    this.#file = undefined;
  }

  async #write(path: string): Promise<void> {
    while (this.#pending.length > 0) {
      const bytes = this.#pending.take();
      try {
        this.#file ??= await open(path, 'a', 0o600);
        if (this.#lostBytes > 0) {
          await this.#file.write(`\n[tsvm: ${this.#lostBytes} bytes of output are not in this log]\n`);
          this.#lostBytes = 0;
        }
        await this.#file.write(bytes);
        this.#fileBytes += bytes.length;
        if (this.#fileBytes >= this.#maxFileBytes) await this.#rotate(path);
      } catch {
        this.#lostBytes += bytes.length; // a full disk, say: the machine goes on
      }
    }
  }

  async #rotate(path: string): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
    this.#fileBytes = 0;
    await rename(path, `${path}.1`);
  }
}
