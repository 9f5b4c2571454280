/**
 * A bus: addresses to devices. Ports and memory are two buses of the same kind.
 *
 * What a guest can do here must stay cheap and harmless: an access that nothing claims, or that does not lie wholly
 * inside one device, reads all ones and writes nothing, as on a PC with nobody answering, and is counted.
 */
import assert from 'node:assert';
import type { BusDevice } from './bus-device.js';

/** A device and where it sits. */
export interface BusRange {
  readonly base: number;
  readonly length: number;
  readonly device: BusDevice;
}

/** Things worth a number, not a log line. */
export interface BusCounters {
  /** Reads answered with all ones, because no device claims the whole access. */
  unclaimedReads: number;
  /** Writes dropped for the same reason. */
  unclaimedWrites: number;
}

/**
 * Addresses, and who answers there.
 *
 * @example
 * ```ts
 * import { Bus } from './bus.js';
 *
 * const memory = new Uint8Array(16);
 * const ports = new Bus();
 * ports.attach(0x3f8, memory.length, {
 *   name: 'scratch',
 *   read: (offset, data) => data.set(memory.subarray(offset, offset + data.length)),
 *   write: (offset, data) => memory.set(data, offset),
 * });
 * ports.write(0x3f8, Uint8Array.of(0x41));
 * ```
 */
export class Bus {
  readonly counters: BusCounters = { unclaimedReads: 0, unclaimedWrites: 0 };
  /** By address, without overlap. */
  readonly #ranges: BusRange[] = [];
  #last: BusRange | undefined;

  /** Gives `device` the addresses [base, base + length). Overlap is a mistake of the caller's, not of the guest's. */
  attach(base: number, length: number, device: BusDevice): void {
    assert(Number.isSafeInteger(base) && base >= 0, `${device.name}: bad base ${base}`);
    assert(
      Number.isSafeInteger(length) && length > 0 && Number.isSafeInteger(base + length),
      `${device.name}: bad length ${length}`,
    );
    const at = this.#firstAtOrAfter(base);
    const before = this.#ranges[at - 1];
    const after = this.#ranges[at];
    const clash =
      before !== undefined && before.base + before.length > base
        ? before
        : after !== undefined && base + length > after.base
          ? after
          : undefined;
    assert(clash === undefined, `${device.name} at 0x${base.toString(16)} overlaps ${clash?.device.name}`);
    this.#ranges.splice(at, 0, { base, length, device });
  }

  /** Takes `device` off wherever it sits. */
  detach(device: BusDevice): void {
    for (let i = this.#ranges.length - 1; i >= 0; i--) {
      if (this.#ranges[i]?.device === device) this.#ranges.splice(i, 1);
    }
    this.#last = undefined;
  }

  /** All devices, by address. */
  get ranges(): readonly BusRange[] {
    return this.#ranges;
  }

  /** A read by a vCPU: fills `data`. */
  read(addr: number, data: Uint8Array): void {
    const range = this.#claim(addr, data.length);
    if (range === undefined) {
      this.counters.unclaimedReads++;
      data.fill(0xff);
      return;
    }
    range.device.read(addr - range.base, data);
  }

  /** A write by a vCPU, which stays stopped until a returned promise settles. */
  write(addr: number, data: Uint8Array): void | Promise<void> {
    const range = this.#claim(addr, data.length);
    if (range === undefined) {
      this.counters.unclaimedWrites++;
      return;
    }
    return range.device.write(addr - range.base, data);
  }

  /** The range that holds the whole access, if its width is one that devices know. Allocates nothing. */
  #claim(addr: number, length: number): BusRange | undefined {
    if (length !== 1 && length !== 2 && length !== 4 && length !== 8) return undefined;
    const last = this.#last;
    if (last !== undefined && addr >= last.base && addr + length <= last.base + last.length) return last;
    const range = this.#ranges[this.#firstAtOrAfter(addr + 1) - 1];
    if (range === undefined || addr + length > range.base + range.length) return undefined;
    this.#last = range;
    return range;
  }

  /** Index of the first range whose base is `addr` or more. */
  #firstAtOrAfter(addr: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as BusRange).base < addr) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
