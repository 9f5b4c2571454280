/**
 * Where decoders put what they unpack: grows as needed, never beyond the limit that defends against bombs.
 */
import { DecompressError } from './error.js';

const FIRST_BYTES = 1 << 20;

/** Decoders write to {@link bytes} from {@link length} on, after {@link reserve}. */
export class OutputBuffer {
  bytes: Uint8Array;
  length = 0;
  readonly #maxBytes: number;

  constructor(maxBytes: number, expectedBytes = FIRST_BYTES) {
    this.#maxBytes = maxBytes;
    this.bytes = new Uint8Array(Math.min(maxBytes, expectedBytes));
  }

  /** Makes room for `count` more bytes, or throws. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    if (needed > this.#maxBytes) throw new DecompressError(`unpacks to more than ${this.#maxBytes} bytes`);
    const larger = new Uint8Array(Math.min(this.#maxBytes, Math.max(needed, this.bytes.length * 2)));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }

  /** What was written, as a view. */
  result(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}
