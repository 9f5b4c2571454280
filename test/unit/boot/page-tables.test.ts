import { describe, expect, it } from 'vitest';
import { writePageTables } from '../../../src/boot/page-tables.js';
import type { GuestMemory } from '../../../src/memory/guest-memory.js';
import { PAGE_TABLES_ADDR, PAGE_TABLES_END } from '../../../src/memory/layout.js';
import { ram } from './images.js';

const PRESENT = 1;
const LARGE = 0x80;
const GIB = 2 ** 30;

/** Address that a processor would find: the physical one, or undefined. */
function translate(memory: GuestMemory, cr3: number, addr: number): number | undefined {
  const index = (shift: number): number => Math.floor(addr / 2 ** shift) % 512;
  let table = cr3;
  for (const shift of [39, 30]) {
    const entry = memory.readU64(table + index(shift) * 8);
    if ((entry & PRESENT) === 0) return undefined;
    table = entry - (entry % 0x1000);
  }
  const entry = memory.readU64(table + index(21) * 8);
  if ((entry & PRESENT) === 0) return undefined;
  expect(entry & LARGE).toBe(LARGE);
  return entry - (entry % 0x20_0000) + (addr % 0x20_0000);
}

describe('writePageTables()', () => {
  it.each([
    ['1 GiB for a small kernel', 0x200_0000, GIB],
    ['2 GiB for one that ends above the first', GIB + 1, 2 * GIB],
    ['all 4 GiB', 4 * GIB, 4 * GIB],
  ])('maps %s to itself and no more', (_, end, mapped) => {
    const memory = ram(1 << 20, 0xff);
    const cr3 = writePageTables(memory, end);
    expect(cr3).toBe(PAGE_TABLES_ADDR);
    for (const addr of [0, 0x7000, 0x1f_ffff, 0x20_0000, end - 1, mapped - 1]) {
      expect(translate(memory, cr3, addr)).toBe(addr);
    }
    expect(translate(memory, cr3, mapped)).toBeUndefined();
    expect(translate(memory, cr3, 512 * GIB)).toBeUndefined();
    expect(memory.readU8(PAGE_TABLES_END)).toBe(0xff);
  });

  it('asserts that there is room', () => {
    expect(() => writePageTables(ram(1 << 20), 4 * GIB + 1)).toThrowError(/no room for 5/);
  });
});
