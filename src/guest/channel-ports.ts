/** The host's ends of the channel's ports: bytes for the guest, and streams of what it says. */
import { Readable } from 'node:stream';
import type { PortControl, PortHost } from '../devices/backends/console.js';

/** Output that is kept for a reader on the host before the guest has to wait. */
const OUTPUT_BUFFER_BYTES = 64 * 1024;

/** A port that the host writes to; what the guest says on it is ignored. */
export class InputPort implements PortHost {
  /** The guest's program closed the port: nobody will read what is written from now on. */
  onGone: (() => void) | undefined;
  readonly #waiting: { rest: Uint8Array; readonly done?: () => void }[] = [];
  #control: PortControl | undefined;
  #open = false;
  #closed = false;

  connect(control: PortControl): void {
    this.#control = control;
  }

  /** Bytes that the device has not taken yet. */
  get unsent(): Buffer {
    return Buffer.concat(this.#waiting.map(({ rest }) => rest));
  }

  onOutput(): boolean {
    return true;
  }

  onDrain(): void {
    this.#pump();
  }

  onOpen(open: boolean): void {
    if (this.#open && !open) this.onGone?.();
    this.#open = open;
  }

  /** Calls `done` when the device has taken all of it. */
  write(bytes: Uint8Array, done?: () => void): void {
    this.#waiting.push({ rest: bytes, ...(done && { done }) });
    if (this.#waiting.length === 1) this.#pump();
  }

  close(): void {
    this.#closed = true;
    if (this.#waiting.length === 0) this.#control?.close();
  }

  #pump(): void {
    const control = this.#control;
    for (
      let first = this.#waiting[0];
      control !== undefined && first !== undefined;
      first = this.#waiting[0]
    ) {
      const taken = control.input(first.rest);
      if (taken < first.rest.length) {
        first.rest = first.rest.subarray(taken);
        return;
      }
      this.#waiting.shift();
      first.done?.();
    }
    if (this.#closed) control?.close();
  }
}

/** A port that the host reads from, as a stream: the guest waits while nobody reads. */
export class OutputPort implements PortHost {
  readonly stream: Readable;
  #control: PortControl | undefined;
  #wanted = false;
  #open = false;
  #unwanted = false;
  #flushing = false;
  #ended = false;

  constructor() {
    this.stream = new Readable({
      highWaterMark: OUTPUT_BUFFER_BYTES,
      read: () => {
        this.#wanted = true;
        this.#control?.resumeOutput();
      },
      destroy: (error, callback) => {
        // The guest looks at the ports as it opens them; until then none may seem closed.
        this.#unwanted = !this.#flushing && !this.#ended;
        if (this.#unwanted && this.#open) this.#control?.close();
        callback(error);
      },
    });
  }

  connect(control: PortControl): void {
    this.#control = control;
  }

  onOutput(bytes: Uint8Array): boolean {
    if (this.#ended || this.stream.destroyed) return true;
    this.#wanted = false;
    // The stream may ask for more from within `push`, and then says no for what came before.
    return this.stream.push(Buffer.from(bytes)) || this.#wanted || this.#flushing;
  }

  onDrain(): void {}

  onOpen(open: boolean): void {
    this.#open = open;
    if (open && this.#unwanted) this.#control?.close();
  }

  /** Takes what is there, wanted or not: the guest's queue bounds it. */
  flush(): void {
    this.#flushing = true;
    this.#control?.resumeOutput();
  }

  /** Whatever the guest still sends goes nowhere. */
  end(): void {
    this.#ended = true;
    if (!this.stream.destroyed) this.stream.push(null);
  }
}
