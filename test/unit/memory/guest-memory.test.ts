import { expect, test } from 'vitest';
import { GuestError } from '../../../src/errors.js';
import { createGuestMemory } from '../../../src/memory/guest-memory.js';
import { MMIO_HOLE_END, MMIO_HOLE_START, pmemAddr, ramRanges } from '../../../src/memory/layout.js';
import { GIB, MIB } from '../../../src/util/units.js';

/** Two neighbours [0, 0x1000) [0x1000, 0x2000) and one apart, [0x1_0000_0000, +0x1000). */
function memory() {
  return createGuestMemory([
    { addr: 0x1_0000_0000, bytes: new Uint8Array(0x1000) },
    { addr: 0, bytes: new Uint8Array(0x1000) },
    { addr: 0x1000, bytes: new Uint8Array(0x1000) },
  ]);
}

test('GuestMemory reads back what it wrote, little-endian', () => {
  const ram = memory();
  ram.writeU64(0x100, 0x12_3456_789a_bcde);
  expect(ram.readU64(0x100)).toBe(0x12_3456_789a_bcde);
  expect(ram.readU8(0x100)).toBe(0xde);
  expect(ram.readU16(0x101)).toBe(0x9abc);
  expect(ram.readU32(0x104)).toBe(0x0012_3456);
  ram.storeU16(0x1_0000_0ffe, 0xbeef);
  expect(ram.loadU16(0x1_0000_0ffe)).toBe(0xbeef);
  expect(ram.sizeBytes).toBe(0x3000);
});

test('GuestMemory refuses addresses outside RAM, ranges that wrap, and a seam for small accesses', () => {
  const ram = memory();
  const bad: [number, number][] = [
    [0x2000, 1],
    [0x1fff, 2],
    [0xc000_0000, 4],
    [0x1_0000_0fff, 2],
    [-1, 1],
    [Number.MAX_SAFE_INTEGER, 2],
    [0x10, Number.MAX_SAFE_INTEGER],
    [0x10, -1],
    [Number.NaN, 1],
    [1.5, 1],
  ];
  for (const [addr, length] of bad) {
    expect(() => ram.slices(addr, length), `${addr}+${length}`).toThrow(GuestError);
    expect(() => ram.slice(addr, length)).toThrow(GuestError);
    expect(() => ram.read(addr, length)).toThrow(GuestError);
    expect(ram.contains(addr, length)).toBe(false);
  }
  expect(() => ram.readU32(0xffe)).toThrow(GuestError);
  expect(() => ram.slice(0xfff, 2)).toThrow(GuestError);
  expect(() => ram.loadU16(0x11)).toThrow(GuestError);
  expect(() => ram.writeU8(0x2000, 1)).toThrow(GuestError);
});

test('GuestMemory copies across the seam of two neighbours', () => {
  const ram = memory();
  ram.write(0xffe, Uint8Array.of(1, 2, 3, 4));
  expect([...ram.read(0xffe, 4)]).toEqual([1, 2, 3, 4]);
  expect(ram.slices(0xffe, 4).map((piece) => [...piece])).toEqual([
    [1, 2],
    [3, 4],
  ]);
  expect(ram.contains(0, 0x2000)).toBe(true);
  expect(ram.contains(0, 0x2001)).toBe(false);
  expect(ram.holdsWhole(0xffe, 4)).toBe(false);
  expect(ram.holdsWhole(0xffe, 2)).toBe(true);
  expect(ram.holdsWhole(0x1000, 0x1000)).toBe(true);
  expect(ram.holdsWhole(-1, 1)).toBe(false);
  expect(ram.holdsWhole(Number.NaN, 1)).toBe(false);
  ram.fill(0xfff, 2, 9);
  expect([...ram.read(0xffe, 4)]).toEqual([1, 9, 9, 4]);
});

test('GuestMemory.regionAt() finds the region of an address', () => {
  const ram = memory();
  expect(ram.regionAt(0xfff)?.addr).toBe(0);
  expect(ram.regionAt(0x1000)?.addr).toBe(0x1000);
  expect(ram.regionAt(0x2000)).toBeUndefined();
  expect(ram.regionAt(0x1_0000_0000)?.addr).toBe(0x1_0000_0000);
});

test('GuestMemory.readU64() refuses what a number cannot hold', () => {
  const ram = memory();
  ram.fill(0, 8, 0xff);
  expect(() => ram.readU64(0)).toThrow(GuestError);
});

test('createGuestMemory() refuses overlapping regions', () => {
  const bytes = new Uint8Array(16);
  expect(() =>
    createGuestMemory([
      { addr: 0, bytes },
      { addr: 8, bytes },
    ]),
  ).toThrow(/overlap/);
  expect(() => createGuestMemory([])).toThrow(/needs a region/);
});

test('ramRanges() leaves the MMIO hole free', () => {
  expect(ramRanges(256 * MIB)).toEqual([{ addr: 0, length: 256 * MIB }]);
  expect(ramRanges(4 * GIB)).toEqual([
    { addr: 0, length: MMIO_HOLE_START },
    { addr: MMIO_HOLE_END, length: GIB },
  ]);
});

test('GuestMemory keeps what may only be read apart from RAM', () => {
  const rom = new Uint8Array(0x1000).fill(7);
  const ram = createGuestMemory([{ addr: 0, bytes: new Uint8Array(0x1000) }], [{ addr: 0x4000, bytes: rom }]);
  expect(ram.readableAt(0x4fff)?.bytes).toBe(rom);
  expect(ram.readableAt(0x5000)).toBeUndefined();
  expect(ram.readableAt(0x3fff)).toBeUndefined();
  expect(ram.readableAt(0xfff)?.addr).toBe(0);
  expect(ram.regionAt(0x4000)).toBeUndefined();
  expect(ram.contains(0x4000, 1)).toBe(false);
  expect(ram.sizeBytes).toBe(0x1000);
  expect(() => ram.writeU8(0x4000, 1)).toThrow(GuestError);
  expect(() => ram.slices(0x4000, 1)).toThrow(GuestError);
});

test('a file in memory begins a section of its own, above RAM and the MMIO hole', () => {
  expect(pmemAddr(64 * MIB)).toBe(4 * GIB);
  expect(pmemAddr(64 * MIB, 4 * GIB + 2 * MIB)).toBe(4 * GIB + 128 * MIB);
  expect(pmemAddr(MMIO_HOLE_START + MIB)).toBe(4 * GIB + 128 * MIB);
});
