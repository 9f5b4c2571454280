/**
 * The host's end of one vsock connection, as a stream.
 *
 * What the guest does never runs a user's code: that comes in a turn of its own. A guest that resets a connection destroys
 * the stream without an error, as a guest may do so at any time and a program need not expect it.
 */
import { Duplex } from 'node:stream';
import type { VsockConnection, VsockEnd, VsockPeer } from '../../devices/backends/vsock.js';
import { BUF_ALLOC_BYTES } from '../../devices/backends/vsock.js';
import { ByteQueue } from '../../util/byte-queue.js';

/**
 * Bytes that are handed on at a time: all that may be unread, since each chunk takes turns of the event loop. One is with the reader,
 * and one is about to be.
 */
const CHUNK_BYTES = BUF_ALLOC_BYTES;

export interface VsockStreamEvents {
  onOpen?(): void;
  /** It is over. */
  onClose?(end: VsockEnd): void;
}

export class VsockStream extends Duplex implements VsockPeer {
  /** Bytes that the guest sent and nobody asked for yet: as much as the device lets it send, in no more bytes than that. */
  readonly #unread = new ByteQueue(BUF_ALLOC_BYTES);
  readonly #events: VsockStreamEvents;
  #connection: VsockConnection | undefined;
  #unsent: { rest: Uint8Array; readonly done: () => void } | undefined;
  #wanted = false;
  #leaving = false;
  #scheduled = false;
  #guestEnded = false;
  #over = false;

  constructor(events: VsockStreamEvents = {}) {
    // One chunk at a time: many small ones would cost more than their bytes.
    super({ allowHalfOpen: true, readableHighWaterMark: 1 });
    this.#events = events;
  }

  /** Called once, before anything else happens. */
  attach(connection: VsockConnection): this {
    this.#connection = connection;
    return this;
  }

  /** The guest's port. */
  get guestPort(): number {
    return this.#connection?.guestPort ?? 0;
  }

  get hostPort(): number {
    return this.#connection?.hostPort ?? 0;
  }

  /** The guest neither sends nor receives any more. */
  get over(): boolean {
    return this.#over;
  }

  /** Ends it, and when all has been sent destroys it: the guest hears at once that nobody reads, either. */
  leave(): void {
    if (this.destroyed) return;
    this.#leaving = true;
    if (this.writableFinished) {
      this.#connection?.leave();
      this.destroy();
      return;
    }
    this.once('finish', () => void this.destroy());
    if (!this.writableEnded) this.end();
  }

  onOpen(): void {
    process.nextTick(() => this.#events.onOpen?.());
  }

  onData(bytes: Uint8Array): void {
    // The device lets in no more than there is room for.
    this.#unread.push(bytes);
    this.#schedule();
  }

  onDrain(): void {
    this.#flush();
  }

  onEnd(): void {
    this.#guestEnded = true;
    this.#schedule();
  }

  onClose(end: VsockEnd): void {
    this.#over = true;
    process.nextTick(() => {
      this.#events.onClose?.(end);
      if (end !== 'closed') {
        this.destroy();
        return;
      }
      // In order: what came is still to be read, and what is still written goes nowhere.
      this.#finishWrite();
      this.#guestEnded = true;
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    while (this.#wanted && this.#unread.length > 0) {
      const chunk = Buffer.allocUnsafe(Math.min(this.#unread.length, CHUNK_BYTES));
      this.#unread.shiftInto(chunk);
      this.#wanted = false;
      const more = this.push(chunk);
      this.#wanted ||= more;
      this.#connection?.consumed(chunk.length);
    }
    if (!this.#guestEnded || this.#unread.length > 0 || this.destroyed) return;
    this.push(null);
    if (!this.#over) return;
    if (this.readableEnded) this.destroy();
    else this.once('end', () => void this.destroy());
  }

  override _read(): void {
    this.#wanted = true;
    this.#schedule();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, callback: () => void): void {
    this.#unsent = { rest: chunk, done: callback };
    this.#flush();
  }

  #flush(): void {
    const unsent = this.#unsent;
    if (unsent === undefined) return;
    const sent = this.#over ? unsent.rest.length : (this.#connection?.send(unsent.rest) ?? 0);
    if (sent === unsent.rest.length) this.#finishWrite();
    else unsent.rest = unsent.rest.subarray(sent);
  }

  #finishWrite(): void {
    const done = this.#unsent?.done;
    this.#unsent = undefined;
    if (done !== undefined) process.nextTick(done);
  }

  override _final(callback: () => void): void {
    if (this.#leaving) this.#connection?.leave();
    else this.#connection?.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#unsent = undefined;
    this.#unread.clear();
    this.#connection?.close();
    callback(error);
  }
}
