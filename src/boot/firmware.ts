/**
 * Firmware ROMs: a vCPU that nobody touches starts in one, 16 bytes below 4 GiB.
 */
import { TsvmError } from '../errors.js';
import { BIOS_AREA_END, type Gpa, MMIO_HOLE_END } from '../memory/layout.js';
import { KIB, MIB, PAGE_BYTES } from '../util/units.js';
import { RESET_ROM_HEX } from './reset-rom.js';

/** The first KiB that a processor in real mode can reach with its reset CS. */
export const FIRMWARE_MIN_BYTES = 64 * KIB;
/** What the memory map leaves free below 4 GiB. */
export const FIRMWARE_MAX_BYTES = 4 * MIB;
/**
 * PC firmware expects its end below 1 MiB too. A chipset shows 128 KiB there and lets the firmware copy the rest; there
 * is no chipset here to ask, so all that firmware may want (SeaBIOS: from 0xC0000, src/config.h BUILD_ROM_START) is
 * there beforehand.
 */
const LOW_COPY_BYTES = 256 * KIB;

export interface FirmwareImage {
  /** Goes into read-only memory. */
  readonly rom: { readonly addr: Gpa; readonly bytes: Uint8Array };
  /** Goes into RAM, which the firmware writes to. */
  readonly lowCopy: { readonly addr: Gpa; readonly bytes: Uint8Array } | undefined;
}

/** Lays out a ROM file of someone else's, such as SeaBIOS. */
export function loadFirmware(bytes: Uint8Array): FirmwareImage {
  if (
    bytes.length < FIRMWARE_MIN_BYTES ||
    bytes.length > FIRMWARE_MAX_BYTES ||
    bytes.length % PAGE_BYTES !== 0
  ) {
    throw new TsvmError(
      'TSVM_FIRMWARE',
      `the firmware has ${bytes.length} bytes; a ROM image has 64 KiB to 4 MiB in whole 4 KiB pages`,
      { hint: 'give a PC ROM image such as /usr/share/seabios/bios-256k.bin' },
    );
  }
  const low = bytes.subarray(-LOW_COPY_BYTES);
  return {
    rom: { addr: MMIO_HOLE_END - bytes.length, bytes },
    lowCopy: { addr: BIOS_AREA_END - low.length, bytes: low },
  };
}

/** The reset ROM (firmware/reset.S), which goes to the entry that `writeResetHandover` left for it. */
export function builtinFirmware(): FirmwareImage {
  const code = Buffer.from(RESET_ROM_HEX, 'hex');
  const bytes = new Uint8Array(PAGE_BYTES);
  bytes.set(code, PAGE_BYTES - code.length);
  return { rom: { addr: MMIO_HOLE_END - PAGE_BYTES, bytes }, lowCopy: undefined };
}
