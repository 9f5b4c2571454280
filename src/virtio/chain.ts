/**
 * A descriptor chain, validated whole before a device sees it: a readable part and a writable part, each a byte stream.
 *
 * Chains are pooled by their queue, and nothing is allocated per descriptor: a chain is a list of stretches of guest
 * memory in arrays that grow once and stay.
 */
import assert from 'node:assert';
import { GuestError } from '../errors.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import type { Gpa } from '../memory/layout.js';

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
  /** Bytes of the writable part in all. */
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
  /** Leaves the next `length` bytes as they are. They count as written. */
  skip(length: number): void;
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

/** Where a chain's life is. */
export const CHAIN_STATE = { FREE: 0, IN_FLIGHT: 1 } as const;
export type ChainState = (typeof CHAIN_STATE)[keyof typeof CHAIN_STATE];

/** The chain as its queue sees it. Devices get it as {@link Chain}. */
export class PooledChain implements Chain {
  head = 0;
  state: ChainState = CHAIN_STATE.FREE;
  readonly segments = new Segments();
  readonly #reader = new Cursor(this.segments);
  readonly #writer = new Cursor(this.segments);

  get reader(): ChainReader {
    return this.#reader;
  }

  get writer(): ChainWriter {
    return this.#writer;
  }

  /** Both parts together. */
  get byteLength(): number {
    return this.#reader.length + this.#writer.length;
  }

  /** Starts over, for another head. */
  begin(head: number): void {
    this.head = head;
    this.segments.clear();
  }

  /** All segments are in: the first `readableSegments` are the driver's, the others the device's to write. */
  finish(readableSegments: number, readableBytes: number, writableBytes: number): void {
    this.#reader.reset(0, readableSegments, readableBytes);
    this.#writer.reset(readableSegments, this.segments.count, writableBytes);
  }
}

/** Stretches of guest memory, each inside one region. */
class Segments {
  readonly bytes: Uint8Array[] = [];
  readonly offsets: number[] = [];
  readonly lengths: number[] = [];
  count = 0;

  /** The arrays stay as long as they were; only what they refer to is forgotten when it is overwritten. */
  clear(): void {
    this.count = 0;
  }

  /**
   * Appends guest memory, as several segments where it spans neighbouring regions. Throws GuestError outside RAM; what is not
   * `writable` may also lie in the memory beside it that is only read.
   */
  append(memory: GuestMemory, addr: Gpa, length: number, writable: boolean): void {
    let at = addr;
    let left = length;
    while (left > 0) {
      const region = writable ? memory.regionAt(at) : memory.readableAt(at);
      if (region === undefined)
        throw new GuestError(`buffer at 0x${addr.toString(16)}+0x${length.toString(16)} is not RAM`);
      const offset = at - region.addr;
      const here = Math.min(left, region.bytes.length - offset);
      this.bytes[this.count] = region.bytes;
      this.offsets[this.count] = offset;
      this.lengths[this.count] = here;
      this.count++;
      at += here;
      left -= here;
    }
  }
}

/** Reads or writes a run of segments as one stream. A device is given it as one or the other. */
class Cursor implements ChainReader, ChainWriter {
  readonly #segments: Segments;
  /** The segment to go on in, and how far into it. */
  #segment = 0;
  #offset = 0;
  #end = 0;
  length = 0;
  remaining = 0;

  constructor(segments: Segments) {
    this.#segments = segments;
  }

  reset(first: number, end: number, length: number): void {
    this.#segment = first;
    this.#offset = 0;
    this.#end = end;
    this.length = length;
    this.remaining = length;
  }

  get written(): number {
    return this.length - this.remaining;
  }

  readU8(): number {
    this.#need(1);
    return this.#nextByte();
  }

  readU16(): number {
    this.#need(2);
    return this.#nextByte() | (this.#nextByte() << 8);
  }

  readU32(): number {
    this.#need(4);
    return (
      (this.#nextByte() | (this.#nextByte() << 8) | (this.#nextByte() << 16) | (this.#nextByte() << 24)) >>> 0
    );
  }

  readU64(): number {
    this.#need(8);
    const low = this.readU32();
    const high = this.readU32();
    if (high > 0x1f_ffff) throw new GuestError('64-bit value in a request is beyond 2^53');
    return high * 0x1_0000_0000 + low;
  }

  read(target: Uint8Array): number {
    const count = Math.min(target.length, this.remaining);
    let at = 0;
    while (at < count) {
      const bytes = this.#segments.bytes[this.#segment] as Uint8Array;
      const start = this.#start();
      const here = Math.min(count - at, this.#left());
      target.set(bytes.subarray(start, start + here), at);
      at += here;
      this.#advance(here);
    }
    return count;
  }

  skip(length: number): void {
    this.#need(length);
    let left = length;
    while (left > 0) {
      const here = Math.min(left, this.#left());
      this.#advance(here);
      left -= here;
    }
  }

  take(length: number): Uint8Array[] {
    this.#need(length);
    const views: Uint8Array[] = [];
    let left = length;
    while (left > 0) {
      const start = this.#start();
      const here = Math.min(left, this.#left());
      views.push((this.#segments.bytes[this.#segment] as Uint8Array).subarray(start, start + here));
      this.#advance(here);
      left -= here;
    }
    return views;
  }

  writeU8(value: number): void {
    this.#need(1);
    this.#putByte(value);
  }

  writeU16(value: number): void {
    this.#need(2);
    this.#putByte(value);
    this.#putByte(value >>> 8);
  }

  writeU32(value: number): void {
    this.#need(4);
    this.#putByte(value);
    this.#putByte(value >>> 8);
    this.#putByte(value >>> 16);
    this.#putByte(value >>> 24);
  }

  writeU64(value: number): void {
    this.#need(8);
    this.writeU32(value >>> 0);
    this.writeU32(Math.floor(value / 0x1_0000_0000));
  }

  write(source: Uint8Array): void {
    this.#need(source.length);
    let at = 0;
    while (at < source.length) {
      const here = Math.min(source.length - at, this.#left());
      const whole = here === source.length;
      (this.#segments.bytes[this.#segment] as Uint8Array).set(
        whole ? source : source.subarray(at, at + here),
        this.#start(),
      );
      at += here;
      this.#advance(here);
    }
  }

  fill(length: number, value: number): void {
    this.#need(length);
    let left = length;
    while (left > 0) {
      const start = this.#start();
      const here = Math.min(left, this.#left());
      (this.#segments.bytes[this.#segment] as Uint8Array).fill(value, start, start + here);
      this.#advance(here);
      left -= here;
    }
  }

  #need(length: number): void {
    assert(length >= 0);
    if (length > this.remaining)
      throw new GuestError(`a request is ${length - this.remaining} bytes too short`);
  }

  /** Where in its region the next byte is. */
  #start(): number {
    return (this.#segments.offsets[this.#segment] as number) + this.#offset;
  }

  /** Bytes left in the current segment: never 0 while `remaining` is not, as empty ones are not kept. */
  #left(): number {
    return (this.#segments.lengths[this.#segment] as number) - this.#offset;
  }

  #advance(length: number): void {
    this.remaining -= length;
    this.#offset += length;
    if (this.#offset === this.#segments.lengths[this.#segment] && this.#segment < this.#end) {
      this.#segment++;
      this.#offset = 0;
    }
  }

  #nextByte(): number {
    const byte = (this.#segments.bytes[this.#segment] as Uint8Array)[this.#start()] as number;
    this.#advance(1);
    return byte;
  }

  #putByte(value: number): void {
    (this.#segments.bytes[this.#segment] as Uint8Array)[this.#start()] = value;
    this.#advance(1);
  }
}
