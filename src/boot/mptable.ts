/**
 * The MP table (Intel MultiProcessor Specification 1.4, chapter 4): processors, IOAPIC and interrupt lines, for
 * kernels without ACPI. Linux finds it at once, because it looks at the last KiB of conventional memory early
 * (arch/x86/kernel/mpparse.c, `mpparse_find_mptable`).
 *
 * @spec mp-1.4 4  MP configuration table  #yes
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import {
  type Gpa,
  IOAPIC_ADDR,
  LAPIC_ADDR,
  LEGACY_HOLE_START,
  MP_CONFIG_ADDR,
  MPTABLE_ADDR,
} from '../memory/layout.js';
import { setChecksum, TableWriter } from './table-writer.js';

const SPEC_REVISION_1_4 = 4;
const POINTER_BYTES = 16;
const POINTER_CHECKSUM = 10;
const HEADER_BYTES = 44;
const HEADER_LENGTH = 4;
const HEADER_CHECKSUM = 7;
const HEADER_ENTRY_COUNT = 34;

// Entry types, table 4-3.
const PROCESSOR = 0;
const BUS = 1;
const IOAPIC = 2;
const IO_INTERRUPT = 3;
const LOCAL_INTERRUPT = 4;

const CPU_ENABLED = 1 << 0;
const CPU_BOOT_PROCESSOR = 1 << 1;
const IOAPIC_USABLE = 1 << 0;
/** What KVM's local APIC reports in its version register. */
const LAPIC_VERSION = 0x14;
const IOAPIC_VERSION = 0x11;
/** Family 6; FPU and on-chip APIC. Informative: kernels ask CPUID. */
const CPU_SIGNATURE = 0x600;
const CPU_FEATURES = (1 << 0) | (1 << 9);

// Interrupt types, table 4-11.
const INT = 0;
const NMI = 1;
const EXT_INT = 3;
const ALL_LAPICS = 0xff;
const ISA_BUS = 0;
/** Polarity and trigger as the bus has them: ISA is edge-triggered, active high. */
const CONFORMS = 0;

/** Timer, keyboard, COM1 and RTC. Each line costs the guest some thousand instructions, so no more are listed. */
export const MPTABLE_LEGACY_IRQS: readonly number[] = [0, 1, 4, 8];

export interface MpTableOptions {
  readonly cpus: number;
  /** Interrupt lines of devices; listed after the legacy ones. */
  readonly gsis: readonly number[];
}

/** The configuration table alone, without the pointer to it. */
export function mpConfigTable({ cpus, gsis }: MpTableOptions): Uint8Array {
  const table = new TableWriter().text('PCMP').u16(0).u8(SPEC_REVISION_1_4, 0);
  table.text('TSVM', 8).text('TSVM', 12);
  table.u32(0).u16(0).u16(0).u32(LAPIC_ADDR).u16(0).u8(0, 0);

  let entries = 0;
  const entry = (type: number): TableWriter => {
    entries += 1;
    return table.u8(type);
  };
  // 4.3.1: the boot processor's entry comes first.
  for (let apicId = 0; apicId < cpus; apicId++) {
    entry(PROCESSOR)
      .u8(apicId, LAPIC_VERSION, CPU_ENABLED | (apicId === 0 ? CPU_BOOT_PROCESSOR : 0))
      .u32(CPU_SIGNATURE)
      .u32(CPU_FEATURES)
      .zeros(8);
  }
  entry(BUS).u8(ISA_BUS).text('ISA', 6);
  const ioapicId = cpus;
  entry(IOAPIC).u8(ioapicId, IOAPIC_VERSION, IOAPIC_USABLE).u32(IOAPIC_ADDR);
  // KVM's default routing connects GSI n to pin n, the timer's 0 included.
  for (const irq of new Set([...MPTABLE_LEGACY_IRQS, ...gsis])) {
    entry(IO_INTERRUPT).u8(INT).u16(CONFORMS).u8(ISA_BUS, irq, ioapicId, irq);
  }
  entry(LOCAL_INTERRUPT).u8(EXT_INT).u16(CONFORMS).u8(ISA_BUS, 0, ALL_LAPICS, 0);
  entry(LOCAL_INTERRUPT).u8(NMI).u16(CONFORMS).u8(ISA_BUS, 0, ALL_LAPICS, 1);

  const bytes = table.bytes();
  const view = new DataView(bytes.buffer);
  view.setUint16(HEADER_LENGTH, bytes.length, true);
  view.setUint16(HEADER_ENTRY_COUNT, entries, true);
  return setChecksum(bytes, HEADER_CHECKSUM);
}

/** Writes the floating pointer at the start of the EBDA, and the table behind it or, if it is too long, above. */
export function writeMpTable(memory: GuestMemory, options: MpTableOptions): Gpa {
  const config = mpConfigTable(options);
  const behind = MPTABLE_ADDR + POINTER_BYTES;
  const configAddr = behind + config.length <= LEGACY_HOLE_START ? behind : MP_CONFIG_ADDR;
  const pointer = new TableWriter()
    .text('_MP_')
    .u32(configAddr)
    .u8(1, SPEC_REVISION_1_4, 0, 0, 0, 0, 0, 0)
    .bytes();
  memory.write(MPTABLE_ADDR, setChecksum(pointer, POINTER_CHECKSUM));
  memory.write(configAddr, config);
  return MPTABLE_ADDR;
}

/** Bytes of the configuration table's header, for those who walk its entries. */
export const MP_CONFIG_HEADER_BYTES = HEADER_BYTES;
