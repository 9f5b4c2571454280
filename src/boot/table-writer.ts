/**
 * Builds firmware tables: little-endian fields appended one after another, and the checksum they all share.
 */

/** Appends fields; {@link TableWriter.bytes} is what was written so far. */
export class TableWriter {
  #buffer = new Uint8Array(256);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  u8(...values: number[]): this {
    for (const value of values) this.#put(1, value);
    return this;
  }

  u16(value: number): this {
    return this.#put(2, value);
  }

  u32(value: number): this {
    return this.#put(4, value);
  }

  u64(value: number): this {
    return this.#put(4, value % 2 ** 32).#put(4, Math.floor(value / 2 ** 32));
  }

  /** ASCII, padded with blanks or cut to `length`. */
  text(value: string, length: number = value.length): this {
    for (let i = 0; i < length; i++) this.u8(i < value.length ? value.charCodeAt(i) : 0x20);
    return this;
  }

  append(bytes: Uint8Array): this {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  zeros(count: number): this {
    return this.append(new Uint8Array(count));
  }

  /** A copy of what was written. */
  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  #put(width: number, value: number): this {
    this.#reserve(width);
    for (let i = 0; i < width; i++) this.#buffer[this.#length++] = Math.floor(value / 2 ** (8 * i)) & 0xff;
    return this;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(this.#buffer.length * 2, this.#length + count));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}

/** Sets the byte at `offset` so that all bytes of the table add up to 0 modulo 256. */
export function setChecksum(table: Uint8Array, offset: number): Uint8Array {
  table[offset] = 0;
  table[offset] = (0x100 - (table.reduce((sum, byte) => sum + byte, 0) & 0xff)) & 0xff;
  return table;
}
