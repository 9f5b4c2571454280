/**
 * Guest RAM, and the only place that checks whether an address lies in it.
 *
 * RAM is a few regions of at most 2 GiB each, because Node 20 caps an external ArrayBuffer at 4 GiB. Two regions may be
 * neighbours in the guest's eyes, so bulk data is reached with {@link GuestMemory.slices}, which splits at the seam;
 * structures that must not straddle one (rings, headers of fixed size) use {@link GuestMemory.slice}.
 */
import { GuestError } from '../errors.js';
import type { Gpa } from './layout.js';

/** A stretch of RAM: `bytes[0]` is the guest's byte at `addr`. */
export interface MemoryRegion {
  readonly addr: Gpa;
  readonly bytes: Uint8Array;
}

/**
 * Guest physical memory as devices see it. Little-endian. Every method throws {@link GuestError} for an address
 * outside RAM, a range that wraps, or (other than {@link slices} and the copies) a range that spans two regions.
 */
export interface GuestMemory {
  /** Bytes of RAM in all. */
  readonly sizeBytes: number;
  readonly regions: readonly MemoryRegion[];
  /** A view, not a copy: the guest may change it at any time. */
  slice(addr: Gpa, length: number): Uint8Array;
  /** Views that together cover the range; more than one only where it spans neighbouring regions. */
  slices(addr: Gpa, length: number): Uint8Array[];
  /** The region that holds `addr`, or undefined. Never throws, allocates nothing. */
  regionAt(addr: Gpa): MemoryRegion | undefined;
  /** The same, or the memory beside RAM that holds `addr` and may only be read. */
  readableAt(addr: Gpa): MemoryRegion | undefined;
  /** True if {@link slice}, and the reads and writes of one value, have the range: it lies in one region. Never throws. */
  holdsWhole(addr: Gpa, length: number): boolean;
  /** True if {@link slices} has the range: every byte is RAM, and neighbouring regions count as one. Never throws. */
  contains(addr: Gpa, length: number): boolean;
  readU8(addr: Gpa): number;
  readU16(addr: Gpa): number;
  readU32(addr: Gpa): number;
  /** As a number: throws for values of 2^53 and more. */
  readU64(addr: Gpa): number;
  writeU8(addr: Gpa, value: number): void;
  writeU16(addr: Gpa, value: number): void;
  writeU32(addr: Gpa, value: number): void;
  writeU64(addr: Gpa, value: number): void;
  /** Copies out of guest memory. */
  read(addr: Gpa, length: number): Uint8Array;
  /** Copies into guest memory. */
  write(addr: Gpa, bytes: Uint8Array): void;
  fill(addr: Gpa, length: number, value: number): void;
  /** Sequentially consistent 16-bit load and store, for ring indices. The address must be even. */
  loadU16(addr: Gpa): number;
  storeU16(addr: Gpa, value: number): void;
}

interface Region extends MemoryRegion {
  readonly end: Gpa;
  readonly view: DataView;
  readonly u16: Uint16Array;
}

/**
 * Makes {@link GuestMemory} of regions that do not overlap; each must start on an even address and offset.
 *
 * @param readOnly memory beside RAM, from which the guest may have devices read.
 */
export function createGuestMemory(
  regions: readonly MemoryRegion[],
  readOnly: readonly MemoryRegion[] = [],
): GuestMemory {
  return new RegionMemory(regions, readOnly);
}

class RegionMemory implements GuestMemory {
  readonly regions: readonly Region[];
  readonly sizeBytes: number;
  readonly #readOnly: readonly MemoryRegion[];
  #last: Region;

  constructor(regions: readonly MemoryRegion[], readOnly: readonly MemoryRegion[]) {
    this.#readOnly = readOnly;
    this.regions = [...regions]
      .sort((a, b) => a.addr - b.addr)
      .map(({ addr, bytes }) => ({
        addr,
        bytes,
        end: addr + bytes.length,
        view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
        u16: new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 1),
      }));
    const first = this.regions[0];
    if (first === undefined) throw new RangeError('guest memory needs a region');
    for (let i = 1; i < this.regions.length; i++) {
      const before = this.regions[i - 1];
      const region = this.regions[i];
      if (before !== undefined && region !== undefined && region.addr < before.end) {
        throw new RangeError(`memory regions overlap at 0x${region.addr.toString(16)}`);
      }
    }
    this.#last = first;
    this.sizeBytes = this.regions.reduce((sum, region) => sum + region.bytes.length, 0);
  }

  /** The region that holds the whole range; the last one used is tried first. */
  #region(addr: Gpa, length: number): Region {
    const last = this.#last;
    if (addr >= last.addr && addr + length <= last.end) return last;
    for (const region of this.regions) {
      if (addr >= region.addr && addr + length <= region.end) {
        this.#last = region;
        return region;
      }
    }
    throw outside(addr, length);
  }

  slice(addr: Gpa, length: number): Uint8Array {
    checkRange(addr, length);
    const region = this.#region(addr, length);
    const offset = addr - region.addr;
    return region.bytes.subarray(offset, offset + length);
  }

  slices(addr: Gpa, length: number): Uint8Array[] {
    checkRange(addr, length);
    const last = this.#last;
    if (addr >= last.addr && addr + length <= last.end) {
      return [last.bytes.subarray(addr - last.addr, addr - last.addr + length)];
    }
    const found: Uint8Array[] = [];
    let at = addr;
    const end = addr + length;
    for (const region of this.regions) {
      if (at >= region.addr && (at < region.end || (length === 0 && at === region.end))) {
        const stop = Math.min(end, region.end);
        found.push(region.bytes.subarray(at - region.addr, stop - region.addr));
        at = stop;
        if (at === end) return found;
      }
    }
    throw outside(addr, length);
  }

  regionAt(addr: Gpa): MemoryRegion | undefined {
    const last = this.#last;
    if (addr >= last.addr && addr < last.end) return last;
    for (const region of this.regions) {
      if (addr >= region.addr && addr < region.end) {
        this.#last = region;
        return region;
      }
    }
    return undefined;
  }

  readableAt(addr: Gpa): MemoryRegion | undefined {
    const ram = this.regionAt(addr);
    if (ram !== undefined) return ram;
    return this.#readOnly.find((region) => addr >= region.addr && addr < region.addr + region.bytes.length);
  }

  holdsWhole(addr: Gpa, length: number): boolean {
    if (!this.contains(addr, length)) return false;
    return this.regions.some((region) => addr >= region.addr && addr + length <= region.end);
  }

  contains(addr: Gpa, length: number): boolean {
    if (!Number.isSafeInteger(addr) || addr < 0 || length < 0 || !Number.isSafeInteger(addr + length))
      return false;
    let at = addr;
    const end = addr + length;
    for (const region of this.regions) {
      if (at < region.addr || at >= region.end) continue;
      at = Math.min(end, region.end);
      if (at === end) return true;
    }
    return false;
  }

  readU8(addr: Gpa): number {
    const region = this.#region(addr, 1);
    return region.view.getUint8(addr - region.addr);
  }

  readU16(addr: Gpa): number {
    const region = this.#region(addr, 2);
    return region.view.getUint16(addr - region.addr, true);
  }

  readU32(addr: Gpa): number {
    const region = this.#region(addr, 4);
    return region.view.getUint32(addr - region.addr, true);
  }

  readU64(addr: Gpa): number {
    const region = this.#region(addr, 8);
    const low = region.view.getUint32(addr - region.addr, true);
    const high = region.view.getUint32(addr - region.addr + 4, true);
    if (high > 0x1f_ffff) throw new GuestError(`64-bit value at 0x${addr.toString(16)} is beyond 2^53`);
    return high * 0x1_0000_0000 + low;
  }

  writeU8(addr: Gpa, value: number): void {
    const region = this.#region(addr, 1);
    region.view.setUint8(addr - region.addr, value);
  }

  writeU16(addr: Gpa, value: number): void {
    const region = this.#region(addr, 2);
    region.view.setUint16(addr - region.addr, value, true);
  }

  writeU32(addr: Gpa, value: number): void {
    const region = this.#region(addr, 4);
    region.view.setUint32(addr - region.addr, value, true);
  }

  writeU64(addr: Gpa, value: number): void {
    const region = this.#region(addr, 8);
    region.view.setUint32(addr - region.addr, value >>> 0, true);
    region.view.setUint32(addr - region.addr + 4, Math.floor(value / 0x1_0000_0000), true);
  }

  read(addr: Gpa, length: number): Uint8Array {
    const pieces = this.slices(addr, length);
    const copy = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      copy.set(piece, at);
      at += piece.length;
    }
    return copy;
  }

  write(addr: Gpa, bytes: Uint8Array): void {
    let at = 0;
    for (const piece of this.slices(addr, bytes.length)) {
      piece.set(bytes.subarray(at, at + piece.length));
      at += piece.length;
    }
  }

  fill(addr: Gpa, length: number, value: number): void {
    for (const piece of this.slices(addr, length)) piece.fill(value);
  }

  loadU16(addr: Gpa): number {
    const region = this.#region(addr, 2);
    return Atomics.load(region.u16, evenIndex(addr, region.addr));
  }

  storeU16(addr: Gpa, value: number): void {
    const region = this.#region(addr, 2);
    Atomics.store(region.u16, evenIndex(addr, region.addr), value);
  }
}

function evenIndex(addr: Gpa, base: Gpa): number {
  if ((addr & 1) !== 0) throw new GuestError(`ring index at odd address 0x${addr.toString(16)}`);
  return (addr - base) / 2;
}

function checkRange(addr: Gpa, length: number): void {
  if (!Number.isSafeInteger(addr) || addr < 0 || length < 0 || !Number.isSafeInteger(addr + length)) {
    throw outside(addr, length);
  }
}

function outside(addr: Gpa, length: number): GuestError {
  return new GuestError(`guest address 0x${addr.toString(16)}+0x${length.toString(16)} is not RAM`);
}
