/**
 * Reads little-endian fields of a kernel image that may be truncated or lying: every read is checked, and what is
 * wrong with the image becomes a {@link TsvmError} of one line.
 */
import { TsvmError } from '../errors.js';
import type { ByteSource } from './byte-source.js';

/** The error for an image that cannot be booted. */
export function kernelImageError(
  message: string,
  hint = "fetch or build the kernel again, or give another: `kernel: 'FILE'`",
  cause?: unknown,
): TsvmError {
  return new TsvmError('TSVM_KERNEL_IMAGE', message, {
    hint,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Throws unless an image of `have` bytes has `length` bytes at `offset`. */
export function checkRange(what: string, have: number, offset: number, length: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= have) return;
  throw kernelImageError(
    `${what} is truncated: it has ${have} bytes, byte ${offset + length} is needed`,
    'fetch or build the kernel again',
  );
}

/** A part of an image, to look at. `what` is the image, for messages. */
export async function readPart(
  source: ByteSource,
  what: string,
  offset: number,
  length: number,
): Promise<ImageReader> {
  checkRange(what, source.length, offset, length);
  return new ImageReader(await source.slice(offset, length), what);
}

/** A checked view of an image's bytes. */
export class ImageReader {
  readonly bytes: Uint8Array;
  /** What the bytes are, for messages: `the ELF image`. */
  readonly what: string;
  readonly #view: DataView;

  constructor(bytes: Uint8Array, what: string) {
    this.bytes = bytes;
    this.what = what;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get length(): number {
    return this.bytes.length;
  }

  u8(offset: number): number {
    this.#check(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    this.#check(offset, 2);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number): number {
    this.#check(offset, 4);
    return this.#view.getUint32(offset, true);
  }

  u64(offset: number): bigint {
    this.#check(offset, 8);
    return this.#view.getBigUint64(offset, true);
  }

  /** A 64-bit field that means an offset, a size or a physical address: more than 2^53 is a lie. */
  size(offset: number, field: string): number {
    const value = this.u64(offset);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw kernelImageError(`${this.what} is damaged: ${field} is 0x${value.toString(16)}`);
    }
    return Number(value);
  }

  /** A view of a range, which must lie in the image. */
  slice(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    return this.bytes.subarray(offset, offset + length);
  }

  #check(offset: number, length: number): void {
    checkRange(this.what, this.bytes.length, offset, length);
  }
}
