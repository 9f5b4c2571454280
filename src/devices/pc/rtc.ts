/**
 * The MC146818 real-time clock and its CMOS memory, as far as kernels and SeaBIOS read it at boot: the time in UTC, and
 * (for firmware) the sizes of memory.
 *
 * It has no interrupt: periodic, alarm and update-ended never come, and the update-in-progress bit is never seen set.
 * The time is that of the injected clock plus whatever the guest set it to.
 *
 * @spec mc146818 "Address map"  Time, calendar and CMOS memory  #yes
 * @spec mc146818 "Interrupts"   Periodic, alarm, update-ended   #no   they never come
 */
import type { BusDevice } from '../../bus/bus-device.js';
import { checkState, type StateOf, stateOf, type VersionedState } from '../../util/state.js';
import { GIB, KIB, MIB } from '../../util/units.js';

const CMOS_BYTES = 128;
const INDEX = 0;
const DATA = 1;
/** Bit 7 of the index port masks the NMI; there is none to mask. */
const INDEX_MASK = 0x7f;

const SECONDS = 0x00;
const MINUTES = 0x02;
const HOURS = 0x04;
const DAY_OF_WEEK = 0x06;
const DAY_OF_MONTH = 0x07;
const MONTH = 0x08;
const YEAR = 0x09;
const REG_A = 0x0a;
const REG_B = 0x0b;
const REG_C = 0x0c;
const REG_D = 0x0d;
const CENTURY = 0x32;
const TIME_REGISTERS: readonly number[] = [
  SECONDS,
  MINUTES,
  HOURS,
  DAY_OF_WEEK,
  DAY_OF_MONTH,
  MONTH,
  YEAR,
  CENTURY,
];

/** 32 kHz base, 1024 Hz rate, not updating. */
const REG_A_VALUE = 0x26;
/** 24-hour mode; the rest (binary mode, interrupt enables) cannot be turned on. */
const REG_B_24H = 0x02;
const REG_B_SET = 0x80;
/** The battery is good. */
const REG_D_VALID = 0x80;

// What firmware reads (SeaBIOS src/fw/paravirt.c, qemu_cfg_legacy and src/hw/rtc.h).
const BASE_MEMORY = 0x15; // KiB below 1 MiB
const EXTENDED_MEMORY = 0x17; // KiB above 1 MiB, at most 63 MiB
const EXTENDED_MEMORY_2 = 0x30; // the same again
const MEMORY_ABOVE_16M = 0x34; // 64 KiB blocks below 4 GiB
const MEMORY_ABOVE_4G = 0x5b; // 64 KiB blocks, three bytes
const CPUS_MINUS_1 = 0x5f;

export interface RtcOptions {
  /** Milliseconds since 1970, UTC: `Date.now`. */
  now(): number;
  /** For firmware, where there is one. */
  readonly firmware?: {
    /** RAM below the MMIO hole. */
    readonly lowMemoryBytes: number;
    /** RAM from 4 GiB up. */
    readonly highMemoryBytes: number;
    readonly cpuCount: number;
  };
}

const STATE_VERSION = 1;
/** Fields of its saved state. */
const STATE = { index: 'u8', offsetMs: 'integer', setting: 'boolean', cmos: 'bytes' } as const;

export class Rtc implements BusDevice {
  readonly name = 'rtc';
  readonly #now: () => number;
  readonly #cmos = new Uint8Array(CMOS_BYTES);
  #index = 0;
  /** The guest's time minus the clock's. */
  #offsetMs = 0;
  /** While REG_B's SET bit is on, the time registers stand still and may be written. */
  #setting = false;

  constructor(options: RtcOptions) {
    this.#now = () => options.now();
    const { firmware } = options;
    if (firmware === undefined) return;
    const above1M = Math.min(Math.max(firmware.lowMemoryBytes - MIB, 0) / KIB, 0xffff);
    const above16M = Math.min(Math.max(firmware.lowMemoryBytes - 16 * MIB, 0), 4 * GIB) / (64 * KIB);
    this.#put(BASE_MEMORY, 2, 640);
    this.#put(EXTENDED_MEMORY, 2, above1M);
    this.#put(EXTENDED_MEMORY_2, 2, above1M);
    this.#put(MEMORY_ABOVE_16M, 2, Math.min(above16M, 0xffff));
    this.#put(MEMORY_ABOVE_4G, 3, Math.min(firmware.highMemoryBytes / (64 * KIB), 0xff_ffff));
    this.#put(CPUS_MINUS_1, 1, firmware.cpuCount - 1);
  }

  #put(index: number, bytes: number, value: number): void {
    for (let i = 0; i < bytes; i++) this.#cmos[index + i] = Math.floor(value) >>> (8 * i);
  }

  read(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++)
      data[i] = offset + i === DATA ? this.#readRegister(this.#index) : 0xff;
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number;
      if (offset + i === INDEX) this.#index = value & INDEX_MASK;
      else this.#writeRegister(this.#index, value);
    }
  }

  #readRegister(index: number): number {
    switch (index) {
      case REG_A:
        return REG_A_VALUE;
      case REG_B:
        return REG_B_24H | (this.#setting ? REG_B_SET : 0);
      case REG_C:
        return 0;
      case REG_D:
        return REG_D_VALID;
      default:
        if (TIME_REGISTERS.includes(index) && !this.#setting) this.#latchTime();
        return this.#cmos[index] as number;
    }
  }

  #writeRegister(index: number, value: number): void {
    switch (index) {
      case REG_A:
      case REG_C:
      case REG_D:
        return;
      case REG_B: {
        const setting = (value & REG_B_SET) !== 0;
        if (setting && !this.#setting) this.#latchTime();
        if (!setting && this.#setting) this.#takeTime();
        this.#setting = setting;
        return;
      }
      default:
        if (!TIME_REGISTERS.includes(index)) {
          this.#cmos[index] = value;
          return;
        }
        if (!this.#setting) this.#latchTime();
        this.#cmos[index] = value;
        if (!this.#setting) this.#takeTime();
    }
  }

  /** Writes the time into the registers. */
  #latchTime(): void {
    const time = new Date(this.#now() + this.#offsetMs);
    const cmos = this.#cmos;
    cmos[SECONDS] = toBcd(time.getUTCSeconds());
    cmos[MINUTES] = toBcd(time.getUTCMinutes());
    cmos[HOURS] = toBcd(time.getUTCHours());
    cmos[DAY_OF_WEEK] = time.getUTCDay() + 1;
    cmos[DAY_OF_MONTH] = toBcd(time.getUTCDate());
    cmos[MONTH] = toBcd(time.getUTCMonth() + 1);
    cmos[YEAR] = toBcd(time.getUTCFullYear() % 100);
    cmos[CENTURY] = toBcd(Math.floor(time.getUTCFullYear() / 100));
  }

  /** Takes the time from the registers. Nonsense in them is a guest's own wrong clock. */
  #takeTime(): void {
    const field = (index: number): number => fromBcd(this.#cmos[index] as number);
    const year = field(CENTURY) * 100 + field(YEAR);
    const time = Date.UTC(
      year,
      field(MONTH) - 1,
      field(DAY_OF_MONTH),
      field(HOURS),
      field(MINUTES),
      field(SECONDS),
    );
    this.#offsetMs = time - this.#now();
  }

  save(): StateOf<typeof STATE> {
    return {
      version: STATE_VERSION,
      index: this.#index,
      offsetMs: this.#offsetMs,
      setting: this.#setting,
      cmos: [...this.#cmos],
    };
  }

  restore(saved: VersionedState): void {
    const state = stateOf(this.name, saved, STATE_VERSION, STATE);
    checkState(state.cmos.length === CMOS_BYTES, 'rtc: CMOS size');
    this.#index = state.index & INDEX_MASK;
    this.#offsetMs = state.offsetMs;
    this.#setting = state.setting;
    this.#cmos.set(state.cmos);
  }
}

function toBcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

function fromBcd(value: number): number {
  return (value >>> 4) * 10 + (value & 0x0f);
}
