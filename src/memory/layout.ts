/**
 * Every guest physical address that tsvm chooses, in one map.
 *
 * ```text
 * 0x0000_0500  GDT for the 64-bit entry
 * 0x0000_0600  what the reset ROM hands over (`--firmware builtin`)
 * 0x0000_6000  hvm_start_info (PVH entry only)
 * 0x0000_7000  boot_params ("zero page")
 * 0x0000_8FF0  initial stack
 * 0x0000_9000  page tables for the 64-bit entry (up to 0xF000)
 * 0x0002_0000  kernel command line
 * 0x0009_FC00  MP table (start of the EBDA)
 * 0x000A_0000  - 0x000F_FFFF  legacy hole: not RAM to the guest
 * 0x000C_0000  with a foreign firmware: a copy of its last 256 KiB
 * 0x000E_0000  ACPI RSDP and tables
 * 0x000E_F000  VM generation ID, in a page of its own
 * 0x000F_0000  MP configuration table, if it is too long for the EBDA
 * 0x0010_0000  kernel, at the address its image asks for
 *              initramfs, as high as it fits
 * 0xC000_0000  MMIO hole begins: no RAM up to 4 GiB
 * 0xD000_0000  virtio-mmio, one slot each
 * 0xFEC0_0000  IOAPIC     0xFEE0_0000  local APIC
 * 0xFEFF_C000  KVM's identity map page   0xFEFF_D000  KVM's three TSS pages
 * 0xFFC0_0000  firmware ROM, ending at 4 GiB
 * 0x1_0000_0000 RAM goes on
 *              files in memory (virtio-pmem), behind all RAM
 * ```
 */

import { alignUp, MIB } from '../util/units.js';

/** Guest physical address. Below 2^53, so a number and not a bigint. */
export type Gpa = number;

export const GDT_ADDR = 0x500;
/** The block that the reset ROM reads (firmware/README.md). */
export const RESET_HANDOVER_ADDR = 0x600;
export const PVH_START_INFO_ADDR = 0x6000;
export const BOOT_PARAMS_ADDR = 0x7000;
export const BOOT_STACK_ADDR = 0x8ff0;
export const PAGE_TABLES_ADDR = 0x9000;
export const PAGE_TABLES_END = 0xf000;
export const CMDLINE_ADDR = 0x20000;
/** Room for the command line and its NUL; a kernel may take less (boot_params `cmdline_size`). */
export const CMDLINE_MAX_BYTES = 4096;
export const MPTABLE_ADDR = 0x9fc00;
export const LOW_RAM_END = 0x9fc00;
export const LEGACY_HOLE_START = 0xa0000;
export const ACPI_ADDR = 0xe0000;
export const ACPI_END = 0xef000;
/** The VM generation ID of a guest that has the ACPI tables. A page of its own, which is the guest's to keep from its other uses. */
export const VM_GENERATION_ADDR = 0xef000;
export const MP_CONFIG_ADDR = 0xf0000;
/** End of what PC firmware occupies below 1 MiB. */
export const BIOS_AREA_END = 0x100000;
export const HIGH_RAM_START = 0x100000;

/** The hole that PC software expects below 4 GiB, where devices live. */
export const MMIO_HOLE_START = 0xc000_0000;
export const MMIO_HOLE_END = 0x1_0000_0000;

export const VIRTIO_MMIO_ADDR = 0xd000_0000;
/** One page a slot, although 0x200 bytes would do, so that a slot can be mapped and trapped on its own. */
export const VIRTIO_MMIO_STRIDE = 0x1000;
/** Bytes of a slot that hold registers and configuration (virtio 1.3, 4.2.2). */
export const VIRTIO_MMIO_BYTES = 0x200;

export const IOAPIC_ADDR = 0xfec0_0000;
export const LAPIC_ADDR = 0xfee0_0000;
/** Where QEMU has them too: below the largest firmware ROM. */
export const KVM_IDENTITY_MAP_ADDR = 0xfeff_c000;
export const KVM_TSS_ADDR = 0xfeff_d000;

/** Port-mapped devices: first port, and how many, where firmware tables tell the guest too. */
export const SERIAL_PORT = 0x3f8;
export const SERIAL_PORTS = 8;
export const SERIAL_IRQ = 4;
export const I8042_PORT = 0x60;
export const I8042_PORTS = 5;
/** Registers behind it: data, and commands and status. Ports between them are of other parts of a PC. */
export const I8042_DATA_OFFSET = 0;
export const I8042_COMMAND_OFFSET = 4;
export const I8042_IRQ = 1;
/** Index and data. */
export const RTC_PORT = 0x70;
export const RTC_PORTS = 2;
export const DEBUG_CONSOLE_PORT = 0x402;
export const BOOT_MARKS_PORT = 0x5f0;
export const ACPI_POWER_PORT = 0x600;
/** Registers behind it: what the FADT says and the device obeys. */
export const ACPI_SLEEP_CONTROL_OFFSET = 0;
export const ACPI_SLEEP_STATUS_OFFSET = 1;
export const ACPI_RESET_OFFSET = 2;
/** SLP_TYP of soft-off, in the sleep control register and in `\_S5`. */
export const ACPI_S5_SLEEP_TYPE = 5;
/** Value that the reset register obeys. */
export const ACPI_RESET_VALUE = 1;
/** ACPI's events: the pin of the SCI, which a hardware-reduced platform does not have. */
export const ACPI_EVENT_IRQ = 9;

/**
 * Global system interrupts for virtio slots, in the order they are given out: IOAPIC pins 5 to 23 without those that
 * PC software ties to the RTC (8), the ACPI SCI (9), the mouse, FPU and IDE (12 to 15).
 */
export const VIRTIO_GSIS: readonly number[] = [5, 6, 7, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23];

/** A stretch of guest physical addresses backed by RAM. */
export interface RamRange {
  readonly addr: Gpa;
  readonly length: number;
}

/** Where `memoryBytes` of RAM go: below the MMIO hole as far as it fits, the rest from 4 GiB up. */
export function ramRanges(memoryBytes: number): RamRange[] {
  const low = Math.min(memoryBytes, MMIO_HOLE_START);
  const ranges: RamRange[] = [{ addr: 0, length: low }];
  if (memoryBytes > low) ranges.push({ addr: MMIO_HOLE_END, length: memoryBytes - low });
  return ranges;
}

/** Linux maps and counts such memory in pieces of 2 MiB (memremap_compat_align). */
export const PMEM_GRANULE_BYTES: number = 2 * MIB;
/** Each begins a memory section of Linux (SECTION_SIZE_BITS), so that none shares one with RAM or another. */
const PMEM_SECTION_BYTES = 128 * MIB;

/** Where the next file in memory goes, above RAM, the hole and `end`, the end of the one before. */
export function pmemAddr(memoryBytes: number, end: Gpa = 0): Gpa {
  const ranges = ramRanges(memoryBytes);
  const ramEnd = Math.max(...ranges.map(({ addr, length }) => addr + length));
  return alignUp(Math.max(ramEnd, MMIO_HOLE_END, end), PMEM_SECTION_BYTES);
}
