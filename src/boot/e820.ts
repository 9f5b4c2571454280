/**
 * The memory map a PC's firmware would report: which stretches are RAM, which are taken.
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import {
  ACPI_ADDR,
  BIOS_AREA_END,
  type Gpa,
  HIGH_RAM_START,
  LEGACY_HOLE_START,
  LOW_RAM_END,
} from '../memory/layout.js';

/** Types of ACPI 6.5, table 15.5 (what INT 15h E820 returns). */
export const E820_RAM = 1;
export const E820_RESERVED = 2;

export interface E820Entry {
  readonly addr: Gpa;
  readonly length: number;
  readonly type: number;
}

/**
 * The map for a machine with this RAM. Below 1 MiB it is that of every PC: conventional memory up to the EBDA, the
 * EBDA (which holds the MP table), a hole, and the BIOS area (which holds the ACPI tables).
 */
export function e820Map(memory: GuestMemory): E820Entry[] {
  const map: E820Entry[] = [
    { addr: 0, length: LOW_RAM_END, type: E820_RAM },
    { addr: LOW_RAM_END, length: LEGACY_HOLE_START - LOW_RAM_END, type: E820_RESERVED },
    { addr: ACPI_ADDR, length: BIOS_AREA_END - ACPI_ADDR, type: E820_RESERVED },
  ];
  for (const { addr, length } of ramAboveOneMiB(memory)) map.push({ addr, length, type: E820_RAM });
  return map;
}

/** Stretches of RAM from 1 MiB up, neighbouring regions joined. */
export function ramAboveOneMiB(memory: GuestMemory): { addr: Gpa; length: number }[] {
  const found: { addr: Gpa; length: number }[] = [];
  for (const region of memory.regions) {
    const addr = Math.max(region.addr, HIGH_RAM_START);
    const length = region.addr + region.bytes.length - addr;
    if (length <= 0) continue;
    const last = found[found.length - 1];
    if (last !== undefined && last.addr + last.length === addr) last.length += length;
    else found.push({ addr, length });
  }
  return found;
}

/** The end of the RAM that starts at 1 MiB, or 1 MiB if there is none. */
export function lowRamEnd(memory: GuestMemory): Gpa {
  const low = ramAboveOneMiB(memory).find(({ addr }) => addr === HIGH_RAM_START);
  return low === undefined ? HIGH_RAM_START : low.addr + low.length;
}
