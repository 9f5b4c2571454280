/** A client that is sent what a machine says for as long as it listens: at its own pace, in memory that has a bound. */
import type { Writable } from 'node:stream';
import { Backlog } from '../../util/backlog.js';

/** Limit of bytes that a client may be behind. One that is further is dropped: it can come again, and the machine does not wait. */
const MAX_BEHIND_BYTES = 4 << 20;

export class Follower {
  readonly #stream: Writable;
  /** Bytes that wait for the one write that the stream has: of many small ones it would keep each with all that belongs to it. */
  readonly #behind = new Backlog(MAX_BEHIND_BYTES);
  #writing = false;
  #ending = false;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  /** Sends it, or drops a client that is too far behind. What comes after `end` goes nowhere. */
  write(bytes: Uint8Array | string): void {
    if (this.#ending || this.#stream.destroyed) return;
    const data = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    if (!this.#writing) this.#send(data);
    else if (!this.#behind.push(data)) this.#stream.destroy();
  }

  /** Ends the stream when all has been sent. */
  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    if (!this.#writing) this.#stream.end();
  }

  #send(data: Uint8Array): void {
    this.#writing = true;
    this.#stream.write(data, () => {
      this.#writing = false;
      if (this.#stream.destroyed) return;
      if (this.#behind.length > 0) this.#send(this.#behind.take());
      else if (this.#ending) this.#stream.end();
    });
  }
}
