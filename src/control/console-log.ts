/** What a machine's console says, in a file of bounded size and for those who listen. */
import { type FileHandle, open, rename } from 'node:fs/promises';

/** Of the file; the one before it is kept as well, as `.1`. */
const MAX_FILE_BYTES = 1 << 20;
/** What a disk that is too slow may owe before output is left out of the log: the guest never waits for it. */
const MAX_PENDING_BYTES = 4 << 20;
/** What one who comes later is shown first. */
const TAIL_BYTES = 64 << 10;

export class ConsoleLog {
  readonly #path: string | undefined;
  readonly #maxFileBytes: number;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #lostBytes = 0;
  #writing: Promise<void> | undefined;
  #tail: Uint8Array[] = [];
  #tailBytes = 0;
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();

  /** @param path - of the file; none: for those who listen only */
  constructor(path?: string, maxFileBytes = MAX_FILE_BYTES) {
    this.#path = path;
    this.#maxFileBytes = maxFileBytes;
  }

  /** The bytes are the log's from now on. */
  push(bytes: Uint8Array): void {
    this.#remember(bytes);
    for (const listener of this.#listeners) listener(bytes);
    if (this.#path === undefined) return;
    if (this.#pendingBytes + bytes.length > MAX_PENDING_BYTES) {
      this.#lostBytes += bytes.length;
      return;
    }
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    this.#writing ??= this.#write(this.#path).finally(() => {
      this.#writing = undefined;
    });
  }

  /** The last that was said, up to 64 KiB. */
  get tail(): Uint8Array {
    return Buffer.concat(this.#tail);
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

  #remember(bytes: Uint8Array): void {
    const kept = bytes.length > TAIL_BYTES ? bytes.subarray(-TAIL_BYTES) : bytes;
    this.#tail.push(kept);
    this.#tailBytes += kept.length;
    while (this.#tailBytes - (this.#tail[0]?.length ?? 0) >= TAIL_BYTES)
      this.#tailBytes -= this.#tail.shift()?.length ?? 0;
  }

  async #write(path: string): Promise<void> {
    while (this.#pending.length > 0) {
      const bytes = Buffer.concat(this.#pending.splice(0));
      this.#pendingBytes = 0;
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
