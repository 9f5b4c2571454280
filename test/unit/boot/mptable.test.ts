import { describe, expect, it } from 'vitest';
import { MP_CONFIG_HEADER_BYTES, mpConfigTable, writeMpTable } from '../../../src/boot/mptable.js';
import { LEGACY_HOLE_START, MP_CONFIG_ADDR, MPTABLE_ADDR } from '../../../src/memory/layout.js';
import { ram } from './images.js';

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total + byte, 0) & 0xff;
/** MP 1.4, table 4-3. */
const ENTRY_BYTES = [20, 8, 8, 8, 8] as const;

function entries(table: Uint8Array): { type: number; bytes: Uint8Array }[] {
  const found: { type: number; bytes: Uint8Array }[] = [];
  for (let at = MP_CONFIG_HEADER_BYTES; at < table.length; ) {
    const type = table[at] ?? 0;
    const length = ENTRY_BYTES[type] ?? table.length;
    found.push({ type, bytes: table.subarray(at, at + length) });
    at += length;
  }
  return found;
}

describe('mpConfigTable()', () => {
  const table = mpConfigTable({ cpus: 3, gsis: [5, 16] });
  const view = new DataView(table.buffer);
  const all = entries(table);

  it('has the header of 4.2 and a right checksum', () => {
    expect(Buffer.from(table.subarray(0, 4)).toString()).toBe('PCMP');
    expect(view.getUint16(4, true)).toBe(table.length);
    expect(view.getUint8(6)).toBe(4);
    expect(view.getUint16(34, true)).toBe(all.length);
    expect(view.getUint32(36, true)).toBe(0xfee0_0000);
    expect(sum(table)).toBe(0);
  });

  it('lists processors by APIC id, the boot processor first and alone marked so', () => {
    const cpus = all.filter(({ type }) => type === 0);
    expect(cpus.map(({ bytes }) => [bytes[1], bytes[3]])).toEqual([
      [0, 3],
      [1, 1],
      [2, 1],
    ]);
  });

  it('has an ISA bus and an IOAPIC whose id no processor has', () => {
    expect(Buffer.from(all.find(({ type }) => type === 1)?.bytes ?? []).toString('latin1', 2)).toBe('ISA   ');
    const ioapic = all.find(({ type }) => type === 2)?.bytes ?? new Uint8Array();
    expect(ioapic[1]).toBe(3);
    expect(ioapic[3]).toBe(1);
  });

  it('connects legacy lines and devices to the pins of the same number', () => {
    const lines = all.filter(({ type }) => type === 3).map(({ bytes }) => [bytes[5], bytes[7]]);
    expect(lines).toEqual([0, 1, 4, 8, 5, 16].map((irq) => [irq, irq]));
  });

  it('wires LINT0 to ExtINT and LINT1 to NMI', () => {
    expect(all.filter(({ type }) => type === 4).map(({ bytes }) => [bytes[1], bytes[7]])).toEqual([
      [3, 0],
      [1, 1],
    ]);
  });
});

describe('writeMpTable()', () => {
  it.each([
    ['behind the pointer', 1, MPTABLE_ADDR + 16],
    ['where there is room for 64 processors', 64, MP_CONFIG_ADDR],
  ])('puts the table %s', (_, cpus, addr) => {
    const memory = ram(1 << 20);
    writeMpTable(memory, { cpus, gsis: [5] });
    const pointer = memory.read(MPTABLE_ADDR, 16);
    expect(Buffer.from(pointer.subarray(0, 4)).toString()).toBe('_MP_');
    expect(sum(pointer)).toBe(0);
    expect(memory.readU32(MPTABLE_ADDR + 4)).toBe(addr);
    const length = memory.readU16(addr + 4);
    expect(sum(memory.read(addr, length))).toBe(0);
    expect(memory.readU8(LEGACY_HOLE_START)).toBe(0);
  });
});
