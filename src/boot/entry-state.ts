/**
 * How a vCPU enters the kernel: the GDT in RAM and the registers as plain data, for whoever sets them.
 *
 * @spec linux-boot "64-bit Boot Protocol"  Registers and GDT at the entry  #yes
 * @spec pvh "start state"  Registers at the 32-bit entry  #yes
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import { BOOT_STACK_ADDR, GDT_ADDR, type Gpa } from '../memory/layout.js';

/** A segment register with its hidden part, in the terms of Intel SDM volume 3, 3.4.5 (and of `struct kvm_segment`). */
export interface SegmentState {
  readonly selector: number;
  readonly base: number;
  readonly limit: number;
  readonly type: number;
  readonly present: number;
  readonly dpl: number;
  readonly db: number;
  readonly s: number;
  readonly l: number;
  readonly g: number;
}

/** What to set before the boot processor runs; every register that is not named is 0. */
export interface EntryState {
  readonly kind: 'linux64' | 'pvh';
  readonly rip: Gpa;
  readonly rsi: number;
  readonly rbx: number;
  readonly rsp: number;
  readonly rflags: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  readonly cs: SegmentState;
  /** DS, ES, FS, GS and SS alike. */
  readonly data: SegmentState;
  readonly tr: SegmentState;
  readonly ldt: SegmentState;
  readonly gdt: { readonly base: Gpa; readonly limit: number };
  readonly idt: { readonly base: Gpa; readonly limit: number };
}

const CR0_PE = 1 << 0;
const CR0_ET = 1 << 4;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 1 << 5;
const EFER_LME = 1 << 8;
const EFER_LMA = 1 << 10;
/** Bit 1 always reads 1; interrupts are off. */
const RFLAGS_RESERVED = 1 << 1;

/** boot.rst, 64-bit boot protocol: CS is __BOOT_CS (0x10), DS, ES and SS are __BOOT_DS (0x18). */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;
const BOOT_TSS = 0x20;

const FLAT = { base: 0, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1 } as const;
const CODE64: SegmentState = { ...FLAT, selector: BOOT_CS, type: 0xb, db: 0, l: 1 };
const CODE32: SegmentState = { ...FLAT, selector: BOOT_CS, type: 0xb, db: 1, l: 0 };
const DATA: SegmentState = { ...FLAT, selector: BOOT_DS, type: 0x3, db: 1, l: 0 };
/** Never used, but VMX does not enter a guest whose TR is not a busy TSS. */
const TSS: SegmentState = {
  selector: BOOT_TSS,
  base: 0,
  limit: 0x67,
  type: 0xb,
  present: 1,
  dpl: 0,
  db: 0,
  s: 0,
  l: 0,
  g: 0,
};
const NO_LDT: SegmentState = { ...TSS, selector: 0, limit: 0xffff, type: 0x2 };

/** Registers for Linux's 64-bit entry: long mode, identity-mapped, RSI at boot_params. */
export function linux64EntryState(
  memory: GuestMemory,
  options: { rip: Gpa; rsi: Gpa; cr3: Gpa },
): EntryState {
  return {
    ...common(memory, CODE64),
    kind: 'linux64',
    rip: options.rip,
    rsi: options.rsi,
    rbx: 0,
    cr0: CR0_PE + CR0_ET + CR0_PG,
    cr3: options.cr3,
    cr4: CR4_PAE,
    efer: EFER_LME | EFER_LMA,
  };
}

/** Registers for the PVH entry (xen/docs/misc/pvh.pandoc): 32-bit protected mode, no paging, EBX at hvm_start_info. */
export function pvhEntryState(memory: GuestMemory, options: { rip: Gpa; rbx: Gpa }): EntryState {
  return {
    ...common(memory, CODE32),
    kind: 'pvh',
    rip: options.rip,
    rsi: 0,
    rbx: options.rbx,
    cr0: CR0_PE + CR0_ET,
    cr3: 0,
    cr4: 0,
    efer: 0,
  };
}

function common(memory: GuestMemory, cs: SegmentState) {
  const descriptors = [0n, 0n, descriptor(cs), descriptor(DATA), descriptor(TSS), 0n];
  descriptors.forEach((value, i) => {
    memory.writeU32(GDT_ADDR + i * 8, Number(value & 0xffff_ffffn));
    memory.writeU32(GDT_ADDR + i * 8 + 4, Number(value >> 32n));
  });
  return {
    rsp: BOOT_STACK_ADDR,
    rflags: RFLAGS_RESERVED,
    cs,
    data: DATA,
    tr: TSS,
    ldt: NO_LDT,
    gdt: { base: GDT_ADDR, limit: descriptors.length * 8 - 1 },
    idt: { base: 0, limit: 0 },
  };
}

/** The 8-byte descriptor of a segment (Intel SDM volume 3, figure 3-8). */
export function descriptor(segment: SegmentState): bigint {
  const limit = segment.g === 1 ? Math.floor(segment.limit / 0x1000) : segment.limit;
  const access = segment.type | (segment.s << 4) | (segment.dpl << 5) | (segment.present << 7);
  const flags = (segment.l << 1) | (segment.db << 2) | (segment.g << 3);
  const low = (limit & 0xffff) + (segment.base & 0xffff) * 0x1_0000;
  const high =
    ((segment.base >>> 16) & 0xff) |
    (access << 8) |
    (((limit >>> 16) & 0xf) << 16) |
    (flags << 20) |
    (segment.base & 0xff00_0000);
  return (BigInt(high >>> 0) << 32n) | BigInt(low);
}
