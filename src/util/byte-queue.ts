/** A bounded first-in, first-out queue of bytes: what stands between a host that types and a guest that reads. */
export class ByteQueue {
  readonly capacity: number;
  /** Made when it is needed: most queues of most machines never hold anything. */
  #bytes = new Uint8Array(0);
  #head = 0;
  #length = 0;

  constructor(capacityBytes: number) {
    this.capacity = capacityBytes;
  }

  get length(): number {
    return this.#length;
  }

  /** Takes as many of `source` as there is room for; returns how many. */
  push(source: Uint8Array): number {
    const count = Math.min(source.length, this.capacity - this.#length);
    if (count === 0) return 0;
    if (this.#bytes.length === 0) this.#bytes = new Uint8Array(this.capacity);
    const tail = (this.#head + this.#length) % this.#bytes.length;
    const first = Math.min(count, this.#bytes.length - tail);
    this.#bytes.set(source.subarray(0, first), tail);
    this.#bytes.set(source.subarray(first, count), 0);
    this.#length += count;
    return count;
  }

  /** Takes one byte out, or returns undefined when empty. */
  shift(): number | undefined {
    if (this.#length === 0) return undefined;
    const byte = this.#bytes[this.#head];
    this.#head = (this.#head + 1) % this.#bytes.length;
    this.#length--;
    return byte;
  }

  /** Moves as many bytes as `target` holds, or as there are; returns how many. */
  shiftInto(target: Uint8Array): number {
    const count = Math.min(target.length, this.#length);
    if (count === 0) return 0;
    const first = Math.min(count, this.#bytes.length - this.#head);
    target.set(this.#bytes.subarray(this.#head, this.#head + first));
    target.set(this.#bytes.subarray(0, count - first), first);
    this.#head = (this.#head + count) % this.#bytes.length;
    this.#length -= count;
    return count;
  }

  clear(): void {
    this.#head = 0;
    this.#length = 0;
  }

  /** The content in order, as plain numbers, for saved state. */
  toArray(): number[] {
    return Array.from(
      { length: this.#length },
      (_, i) => this.#bytes[(this.#head + i) % this.#bytes.length] ?? 0,
    );
  }
}
