/**
 * KVM's register structures as plain data, and back (arch/x86/include/uapi/asm/kvm.h).
 *
 * The offsets are exported for code that looks at one register in the mapped run page and must not decode it all.
 *
 * @spec kvm-api 4.11  Registers: KVM_GET_REGS and its like  #yes
 */

const REGS = [
  'rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp',
  'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags',
] as const; // biome-ignore format: two rows of eight
export type GeneralRegister = (typeof REGS)[number];
/** `struct kvm_regs`. */
export type Regs = Record<GeneralRegister, bigint>;
export const KVM_REGS_BYTES = REGS.length * 8;

/** Byte offset of a register in `struct kvm_regs`. */
export function regsOffset(name: GeneralRegister): number {
  return REGS.indexOf(name) * 8;
}

/** `struct kvm_segment`. */
export interface Segment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}
export const KVM_SEGMENT_BYTES = 24;

/** `struct kvm_dtable`. */
export interface DescriptorTable {
  base: bigint;
  limit: number;
}

const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;
export type SegmentName = (typeof SEGMENTS)[number];
const TABLES = ['gdt', 'idt'] as const;
const CONTROLS = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'] as const;
const TABLES_OFFSET = SEGMENTS.length * KVM_SEGMENT_BYTES;
const CONTROLS_OFFSET = TABLES_OFFSET + TABLES.length * 16;
const INTERRUPT_BITMAP_OFFSET = CONTROLS_OFFSET + CONTROLS.length * 8;
export const KVM_SREGS_BYTES = INTERRUPT_BITMAP_OFFSET + 32;

/** `struct kvm_sregs`. */
export type Sregs = Record<SegmentName, Segment> &
  Record<(typeof TABLES)[number], DescriptorTable> &
  Record<(typeof CONTROLS)[number], bigint> & { interruptBitmap: bigint[] };

/** Byte offset of a segment in `struct kvm_sregs`. */
export function segmentOffset(name: SegmentName): number {
  return SEGMENTS.indexOf(name) * KVM_SEGMENT_BYTES;
}

/** Byte offset of the IDT's base in `struct kvm_sregs`. */
export const SREGS_IDT_OFFSET = TABLES_OFFSET + 16;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function decodeRegs(bytes: Uint8Array): Regs {
  const view = viewOf(bytes);
  return Object.fromEntries(REGS.map((name, i) => [name, view.getBigUint64(i * 8, true)])) as Regs;
}

export function encodeRegs(regs: Regs): Uint8Array {
  const bytes = new Uint8Array(KVM_REGS_BYTES);
  const view = viewOf(bytes);
  REGS.forEach((name, i) => {
    view.setBigUint64(i * 8, regs[name], true);
  });
  return bytes;
}

export function decodeSegment(view: DataView, at: number): Segment {
  return {
    base: view.getBigUint64(at, true),
    limit: view.getUint32(at + 8, true),
    selector: view.getUint16(at + 12, true),
    type: view.getUint8(at + 14),
    present: view.getUint8(at + 15),
    dpl: view.getUint8(at + 16),
    db: view.getUint8(at + 17),
    s: view.getUint8(at + 18),
    l: view.getUint8(at + 19),
    g: view.getUint8(at + 20),
    avl: view.getUint8(at + 21),
    unusable: view.getUint8(at + 22),
  };
}

export function encodeSegment(view: DataView, at: number, segment: Segment): void {
  view.setBigUint64(at, segment.base, true);
  view.setUint32(at + 8, segment.limit, true);
  view.setUint16(at + 12, segment.selector, true);
  view.setUint8(at + 14, segment.type);
  view.setUint8(at + 15, segment.present);
  view.setUint8(at + 16, segment.dpl);
  view.setUint8(at + 17, segment.db);
  view.setUint8(at + 18, segment.s);
  view.setUint8(at + 19, segment.l);
  view.setUint8(at + 20, segment.g);
  view.setUint8(at + 21, segment.avl);
  view.setUint8(at + 22, segment.unusable);
  view.setUint8(at + 23, 0);
}

export function decodeSregs(bytes: Uint8Array): Sregs {
  const view = viewOf(bytes);
  const segments = SEGMENTS.map((name, i) => [name, decodeSegment(view, i * KVM_SEGMENT_BYTES)]);
  const tables = TABLES.map((name, i) => {
    const at = TABLES_OFFSET + i * 16;
    return [name, { base: view.getBigUint64(at, true), limit: view.getUint16(at + 8, true) }];
  });
  const controls = CONTROLS.map((name, i) => [name, view.getBigUint64(CONTROLS_OFFSET + i * 8, true)]);
  const interruptBitmap = [0, 1, 2, 3].map((i) => view.getBigUint64(INTERRUPT_BITMAP_OFFSET + i * 8, true));
  return { ...Object.fromEntries([...segments, ...tables, ...controls]), interruptBitmap } as Sregs;
}

export function encodeSregs(sregs: Sregs): Uint8Array {
  const bytes = new Uint8Array(KVM_SREGS_BYTES);
  const view = viewOf(bytes);
  SEGMENTS.forEach((name, i) => {
    encodeSegment(view, i * KVM_SEGMENT_BYTES, sregs[name]);
  });
  TABLES.forEach((name, i) => {
    view.setBigUint64(TABLES_OFFSET + i * 16, sregs[name].base, true);
    view.setUint16(TABLES_OFFSET + i * 16 + 8, sregs[name].limit, true);
  });
  CONTROLS.forEach((name, i) => {
    view.setBigUint64(CONTROLS_OFFSET + i * 8, sregs[name], true);
  });
  sregs.interruptBitmap.forEach((word, i) => {
    view.setBigUint64(INTERRUPT_BITMAP_OFFSET + i * 8, word, true);
  });
  return bytes;
}

/** Registers for people, in the order that kernels print them. */
export function formatRegs(regs: Regs): string {
  const hex = (value: bigint) => value.toString(16).padStart(16, '0');
  const rows = [
    ['rip', 'rsp', 'rflags'],
    ['rax', 'rbx', 'rcx', 'rdx'],
    ['rsi', 'rdi', 'rbp', 'r8'],
    ['r9', 'r10', 'r11', 'r12'],
    ['r13', 'r14', 'r15'],
  ] as const;
  return rows.map((row) => row.map((name) => `${name}=${hex(regs[name])}`).join(' ')).join('\n');
}
