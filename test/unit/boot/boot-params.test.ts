import { describe, expect, it } from 'vitest';
import { writeBootParams } from '../../../src/boot/boot-params.js';
import { parseBzImage } from '../../../src/boot/bzimage.js';
import { e820Map, lowRamEnd, ramAboveOneMiB } from '../../../src/boot/e820.js';
import { createGuestMemory } from '../../../src/memory/guest-memory.js';
import { BOOT_PARAMS_ADDR, CMDLINE_ADDR } from '../../../src/memory/layout.js';
import { makeBzImage, ram } from './images.js';

const nothing = { setupHeader: undefined, e820: [], initrd: undefined, rsdpAddr: undefined };

describe('writeBootParams()', () => {
  it('makes a header for an ELF kernel', () => {
    const memory = ram(1 << 20, 0xff);
    const page = writeBootParams(memory, nothing);
    expect(page).toBe(BOOT_PARAMS_ADDR);
    expect(memory.readU16(page + 0x1fe)).toBe(0xaa55);
    expect(Buffer.from(memory.read(page + 0x202, 4)).toString()).toBe('HdrS');
    expect(memory.readU8(page + 0x210)).toBe(0xff);
    expect(memory.readU8(page + 0x211) & 1).toBe(1);
    expect(memory.readU32(page + 0x228)).toBe(CMDLINE_ADDR);
    expect(memory.readU32(page + 0x218)).toBe(0);
    expect(memory.readU8(page + 0xfff)).toBe(0);
  });

  it("keeps a bzImage's own header and fills in the loader's fields", () => {
    const memory = ram(1 << 20);
    const { setupHeader } = parseBzImage(makeBzImage({ initSize: 0x123456 }));
    const page = writeBootParams(memory, { ...nothing, setupHeader });
    expect(memory.readU32(page + 0x260)).toBe(0x123456);
    expect(memory.readU16(page + 0x206)).toBe(0x020f);
    expect(memory.readU8(page + 0x210)).toBe(0xff);
    expect(memory.readU32(page + 0x228)).toBe(CMDLINE_ADDR);
  });

  it('splits addresses of 64 bits into their two fields', () => {
    const memory = ram(1 << 20);
    const page = writeBootParams(memory, {
      ...nothing,
      initrd: { addr: 0x2_1000_0000, length: 0x1_0000_0005 },
      rsdpAddr: 0xe0000,
    });
    expect(memory.readU32(page + 0x218)).toBe(0x1000_0000);
    expect(memory.readU32(page + 0x0c0)).toBe(2);
    expect(memory.readU32(page + 0x21c)).toBe(5);
    expect(memory.readU32(page + 0x0c4)).toBe(1);
    expect(memory.readU64(page + 0x070)).toBe(0xe0000);
  });

  it('lists the memory map in entries of 20 bytes', () => {
    const memory = ram(1 << 20);
    const page = writeBootParams(memory, {
      ...nothing,
      e820: [
        { addr: 0, length: 0x9fc00, type: 1 },
        { addr: 0x1_0000_0000, length: 0x2_0000_0000, type: 2 },
      ],
    });
    expect(memory.readU8(page + 0x1e8)).toBe(2);
    expect(memory.readU64(page + 0x2d0 + 20)).toBe(0x1_0000_0000);
    expect(memory.readU64(page + 0x2d0 + 28)).toBe(0x2_0000_0000);
    expect(memory.readU32(page + 0x2d0 + 36)).toBe(2);
  });
});

describe('e820Map()', () => {
  it('has low memory, the EBDA, the BIOS area and RAM from 1 MiB', () => {
    expect(e820Map(ram(8 << 20))).toEqual([
      { addr: 0, length: 0x9fc00, type: 1 },
      { addr: 0x9fc00, length: 0x400, type: 2 },
      { addr: 0xe0000, length: 0x20000, type: 2 },
      { addr: 0x100000, length: 0x700000, type: 1 },
    ]);
  });

  it('leaves the MMIO hole out and joins neighbouring regions', () => {
    const regions = [
      { addr: 0, bytes: new Uint8Array(4 << 20) },
      { addr: 4 << 20, bytes: new Uint8Array(4 << 20) },
      { addr: 0x1_0000_0000, bytes: new Uint8Array(1 << 20) },
    ];
    const split = createGuestMemory(regions);
    expect(ramAboveOneMiB(split)).toEqual([
      { addr: 0x100000, length: 7 << 20 },
      { addr: 0x1_0000_0000, length: 1 << 20 },
    ]);
    expect(lowRamEnd(split)).toBe(8 << 20);
  });
});
