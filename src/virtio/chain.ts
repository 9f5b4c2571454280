/**
 * A descriptor chain, validated whole before a device sees it: a readable part and a writable part, each a byte stream.
 */

/** Bytes that the driver gave the device. Reading past the end throws GuestError. */
export interface ChainReader {
  /** Bytes of the readable part in all. */
  readonly length: number;
  /** Bytes not yet read. */
  readonly remaining: number;
  readU8(): number;
  readU16(): number;
  readU32(): number;
  /** As a number: GuestError for 2^53 and more. */
  readU64(): number;
  /** Copies as many bytes as `target` holds, or as remain; returns how many. */
  read(target: Uint8Array): number;
  skip(length: number): void;
  /** Views of the next `length` bytes in guest memory (for I/O with no copy); they are then counted as read. */
  take(length: number): Uint8Array[];
}

/** Room that the driver gave the device to write to. Writing past the end throws GuestError. */
export interface ChainWriter {
  readonly length: number;
  /** Room not yet written. */
  readonly remaining: number;
  /** Bytes written so far. */
  readonly written: number;
  writeU8(value: number): void;
  writeU16(value: number): void;
  writeU32(value: number): void;
  writeU64(value: number): void;
  /** Copies all of `source`, or throws with nothing written. */
  write(source: Uint8Array): void;
  fill(length: number, value: number): void;
  /** Views of the next `length` bytes in guest memory; they are then counted as written. */
  take(length: number): Uint8Array[];
}

/** One request. Valid until it is completed or the device is reset. */
export interface Chain {
  /** Index of the head descriptor: what the used ring returns. */
  readonly head: number;
  readonly reader: ChainReader;
  readonly writer: ChainWriter;
}
