/** Kernel images made of a few bytes, for tests that look at what is wrong with them. */
import { gzipSync } from 'node:zlib';
import { createGuestMemory, type GuestMemory } from '../../../src/memory/guest-memory.js';

export interface SegmentSpec {
  readonly type?: number;
  readonly offset?: bigint;
  readonly vaddr?: bigint;
  readonly paddr?: bigint;
  readonly filesz?: bigint;
  readonly memsz?: bigint;
  readonly data?: Uint8Array;
}

/** An ELF64 executable; every field can be made to lie. */
export function makeElf(
  options: {
    entry?: bigint;
    segments?: readonly SegmentSpec[];
    machine?: number;
    type?: number;
    phentsize?: number;
    phnum?: number;
  } = {},
): Uint8Array {
  const segments = options.segments ?? [{ paddr: 0x100000n, data: Uint8Array.of(0xf4), memsz: 0x1000n }];
  const entry = options.entry ?? 0x100000n;
  const dataAt = 64 + segments.length * 56;
  const total = segments.reduce((sum, { data }) => sum + (data?.length ?? 0), dataAt);
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, options.type ?? 2, true);
  view.setUint16(18, options.machine ?? 62, true);
  view.setBigUint64(24, entry, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, options.phentsize ?? 56, true);
  view.setUint16(56, options.phnum ?? segments.length, true);
  let offset = dataAt;
  segments.forEach((segment, i) => {
    const at = 64 + i * 56;
    const length = segment.data?.length ?? 0;
    view.setUint32(at, segment.type ?? 1, true);
    view.setBigUint64(at + 8, segment.offset ?? BigInt(offset), true);
    view.setBigUint64(at + 16, segment.vaddr ?? 0xffff_ffff_8000_0000n + (segment.paddr ?? 0n), true);
    view.setBigUint64(at + 24, segment.paddr ?? 0n, true);
    view.setBigUint64(at + 32, segment.filesz ?? BigInt(length), true);
    view.setBigUint64(at + 40, segment.memsz ?? BigInt(length), true);
    if (segment.data !== undefined) bytes.set(segment.data, offset);
    offset += length;
  });
  return bytes;
}

/** A note of the Xen kind. */
export function xenNote(type: number, value: Uint8Array, nameBytes = 4): Uint8Array {
  const note = new Uint8Array(16 + Math.ceil(value.length / 4) * 4);
  const view = new DataView(note.buffer);
  view.setUint32(0, nameBytes, true);
  view.setUint32(4, value.length, true);
  view.setUint32(8, type, true);
  note.set([0x58, 0x65, 0x6e, 0], 12);
  note.set(value, 16);
  return note;
}

/** A bzImage around a payload; `patch` may spoil it. */
export function makeBzImage(
  options: {
    payload?: Uint8Array;
    setupSects?: number;
    prefAddress?: bigint;
    initSize?: number;
    patch?: (view: DataView) => void;
  } = {},
): Uint8Array {
  const payload = options.payload ?? gzipSync(makeElf());
  const setupSects = options.setupSects ?? 1;
  const protectedMode = ((setupSects || 4) + 1) * 512;
  const payloadOffset = 0x300;
  const bytes = new Uint8Array(protectedMode + payloadOffset + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0x1f1, setupSects);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x200, 0xeb);
  view.setUint8(0x201, 0x6a);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, 0x020f, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint16(0x236, 1, true);
  view.setUint32(0x238, 2047, true);
  view.setUint32(0x248, payloadOffset, true);
  view.setUint32(0x24c, payload.length, true);
  view.setBigUint64(0x258, options.prefAddress ?? 0x100000n, true);
  view.setUint32(0x260, options.initSize ?? 0x10000, true);
  bytes.set(payload, protectedMode + payloadOffset);
  options.patch?.(view);
  return bytes;
}

/** An EFI program with empty sections of these names; `magic` stands where a zboot kernel has its own. */
export function makePe(machine: number, sections: readonly string[], magic = ''): Uint8Array {
  const header = 0x80;
  const bytes = Buffer.alloc(0x400);
  bytes.write('MZ');
  bytes.write(magic, 4, 'latin1');
  bytes.writeUInt32LE(header, 0x3c);
  bytes.write('PE', header);
  bytes.writeUInt16LE(machine, header + 4);
  bytes.writeUInt16LE(sections.length, header + 6);
  bytes.writeUInt16LE(0x70, header + 20);
  sections.forEach((name, i) => {
    bytes.write(name, header + 24 + 0x70 + i * 40, 'latin1');
  });
  return bytes;
}

/** Guest memory of one or more regions, filled with what was there before. */
export function ram(bytes = 8 << 20, fill = 0): GuestMemory {
  return createGuestMemory([{ addr: 0, bytes: new Uint8Array(bytes).fill(fill) }]);
}
