/** The last bytes of a stream, up to a limit: a ring, so that neither small writes nor large ones cost more than their bytes. */
export class LastBytes {
  readonly #most: number;
  /** Ring, as large as it had to be so far. */
  #ring = new Uint8Array(0);
  #length = 0;
  /** Index in the ring where the next byte goes. */
  #at = 0;

  constructor(most: number) {
    this.#most = most;
  }

  push(bytes: Uint8Array): void {
    const kept = bytes.length > this.#most ? bytes.subarray(bytes.length - this.#most) : bytes;
    this.#reserve(Math.min(this.#most, this.#length + kept.length));
    const first = Math.min(kept.length, this.#ring.length - this.#at);
    this.#ring.set(kept.subarray(0, first), this.#at);
    this.#ring.set(kept.subarray(first), 0);
    this.#length = Math.min(this.#ring.length, this.#length + kept.length);
    this.#at = this.#ring.length === 0 ? 0 : (this.#at + kept.length) % this.#ring.length;
  }

  /** A copy of them, the oldest first. */
  get bytes(): Uint8Array {
    // Until it is full it begins at its beginning.
    if (this.#length < this.#ring.length) return this.#ring.slice(0, this.#length);
    return Buffer.concat([this.#ring.subarray(this.#at), this.#ring.subarray(0, this.#at)]);
  }

  #reserve(length: number): void {
    if (length <= this.#ring.length) return;
    const larger = new Uint8Array(Math.min(this.#most, Math.max(length, 2 * this.#ring.length)));
    larger.set(this.bytes);
    this.#at = this.#length;
    this.#ring = larger;
  }
}
