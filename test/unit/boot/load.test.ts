import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../../src/boot/byte-source.js';
import { descriptor } from '../../../src/boot/entry-state.js';
import { loadLinux } from '../../../src/boot/load.js';
import { runXz } from '../../../src/host/program-filter.js';
import {
  ACPI_ADDR,
  BOOT_PARAMS_ADDR,
  CMDLINE_ADDR,
  GDT_ADDR,
  MPTABLE_ADDR,
  PVH_START_INFO_ADDR,
} from '../../../src/memory/layout.js';
import { makeBzImage, makeElf, makePe, ram, xenNote } from './images.js';

const code = Uint8Array.of(0xf4, 0xeb, 0xfd);
const elf = makeElf({
  entry: 0x200001n,
  segments: [
    { paddr: 0x200000n, data: code, memsz: 0x1000n },
    { type: 4, data: xenNote(18, Uint8Array.of(2, 0, 0x20, 0)) },
  ],
});
const options = {
  image: bytesSource(elf),
  cmdline: 'quiet',
  cpus: 2,
  devices: [{ addr: 0xd000_0000, length: 0x200, gsi: 5 }],
  acpi: true,
  mptable: true,
  xz: runXz,
};

describe('loadLinux()', () => {
  it('loads an ELF kernel for its 64-bit entry', async () => {
    const memory = ram();
    const { kernel, entry, rsdpAddr, initrd } = await loadLinux(memory, {
      ...options,
      initrd: [Uint8Array.of(7)],
    });
    expect(kernel).toMatchObject({ kind: 'elf', startAddr: 0x200000, endAddr: 0x201000, cmdlineLimit: 2047 });
    expect(entry).toMatchObject({
      kind: 'linux64',
      rip: 0x200001,
      rsi: BOOT_PARAMS_ADDR,
      efer: 0x500,
      cr4: 0x20,
    });
    expect(entry.cr0).toBe(0x8000_0011);
    expect(entry.cs).toMatchObject({ selector: 0x10, l: 1, db: 0 });
    expect(memory.read(0x200000, 3)).toEqual(code);
    expect(memory.readU8(CMDLINE_ADDR)).toBe(0x71);
    expect(rsdpAddr).toBe(ACPI_ADDR);
    expect(memory.readU64(BOOT_PARAMS_ADDR + 0x70)).toBe(ACPI_ADDR);
    expect(memory.readU32(BOOT_PARAMS_ADDR + 0x218)).toBe(initrd?.addr);
    expect(memory.readU32(MPTABLE_ADDR)).toBe(0x5f504d5f);
  });

  it('writes no tables that are not asked for', async () => {
    const memory = ram();
    const { rsdpAddr } = await loadLinux(memory, { ...options, acpi: false, mptable: false });
    expect(rsdpAddr).toBeUndefined();
    expect(memory.readU32(ACPI_ADDR)).toBe(0);
    expect(memory.readU32(MPTABLE_ADDR)).toBe(0);
  });

  it('unpacks a bzImage and keeps its setup header', async () => {
    const memory = ram();
    const image = bytesSource(makeBzImage({ payload: gzipSync(elf), initSize: 0x4321 }));
    const { kernel, entry } = await loadLinux(memory, { ...options, image });
    expect(kernel.kind).toBe('bzImage');
    expect(entry.rip).toBe(0x200001);
    expect(memory.readU32(BOOT_PARAMS_ADDR + 0x260)).toBe(0x4321);
  });

  it('enters a bzImage at its own 64-bit entry on request', async () => {
    const memory = ram();
    const image = bytesSource(makeBzImage({ prefAddress: 0x300000n, initSize: 0x100000 }));
    const { kernel, entry } = await loadLinux(memory, { ...options, image, entry: 'bzimage' });
    expect(entry.rip).toBe(0x300200);
    expect(kernel.endAddr).toBe(0x400000);
    expect(memory.read(0x300300, 2)).toEqual(Uint8Array.of(0x1f, 0x8b));
  });

  it.each([
    ['vmlinux', elf, 'elf'],
    ['bzImage', makeBzImage({ payload: gzipSync(elf) }), 'bzImage'],
  ])('takes a %s that is compressed as a file', async (_, bytes, kind) => {
    const { kernel } = await loadLinux(ram(), { ...options, image: bytesSource(gzipSync(bytes)) });
    expect(kernel).toMatchObject({ kind, entry: 0x200001 });
  });

  it('takes a kernel with a PVH note that names an interpreter, as FreeBSD’s does', async () => {
    const segments = [
      { type: 3, data: Buffer.from('/red/herring\0') },
      { paddr: 0x200000n, data: code, memsz: 0x1000n },
      { type: 4, data: xenNote(18, Uint8Array.of(2, 0, 0x20, 0)) },
    ];
    const image = bytesSource(makeElf({ entry: 0x200001n, segments }));
    await expect(loadLinux(ram(), { ...options, image, entry: 'pvh' })).resolves.toBeDefined();
  });

  it('enters at the PVH note with hvm_start_info in EBX', async () => {
    const memory = ram();
    const { entry, initrd } = await loadLinux(memory, {
      ...options,
      entry: 'pvh',
      initrd: [Uint8Array.of(7)],
    });
    expect(entry).toMatchObject({
      kind: 'pvh',
      rip: 0x200002,
      rbx: PVH_START_INFO_ADDR,
      cr0: 0x11,
      cr3: 0,
      efer: 0,
    });
    expect(entry.cs).toMatchObject({ l: 0, db: 1 });
    const info = PVH_START_INFO_ADDR;
    expect([0, 4, 8, 12].map((offset) => memory.readU32(info + offset))).toEqual([0x336e_c578, 1, 0, 1]);
    expect(memory.readU64(memory.readU64(info + 16))).toBe(initrd?.addr);
    expect(memory.readU64(info + 24)).toBe(CMDLINE_ADDR);
    expect(memory.readU64(info + 32)).toBe(ACPI_ADDR);
    const map = memory.readU64(info + 40);
    expect(memory.readU32(info + 48)).toBe(4);
    expect([memory.readU64(map), memory.readU64(map + 8), memory.readU32(map + 16)]).toEqual([0, 0x9fc00, 1]);
  });

  it('writes a GDT that agrees with the segment registers', async () => {
    const memory = ram();
    const { entry } = await loadLinux(memory, options);
    const at = (selector: number): bigint =>
      BigInt(memory.readU32(GDT_ADDR + selector)) | (BigInt(memory.readU32(GDT_ADDR + selector + 4)) << 32n);
    expect(at(0x10)).toBe(0x00af_9b00_0000_ffffn);
    expect(at(0x18)).toBe(0x00cf_9300_0000_ffffn);
    expect(at(entry.tr.selector)).toBe(descriptor(entry.tr));
  });

  type Refusal = [string, Partial<Parameters<typeof loadLinux>[1]>, string, RegExp];
  /** Files that are no kernel for this processor, each by its name. */
  function kinds(): Refusal[] {
    const arm64 = Buffer.alloc(0x400);
    arm64.write('MZ');
    arm64.write('ARMd', 0x38);
    const bigEndian = makeElf({ machine: 22 << 8 });
    bigEndian[5] = 2;
    const xen = makeElf({ machine: 3 });
    xen[4] = 1;
    const rows: [string, Uint8Array, RegExp][] = [
      ['an Image of arm64', arm64, /a kernel for arm64/],
      ['an Image.gz of arm64', gzipSync(arm64), /a kernel for arm64/],
      ['a vmlinux of arm64', makeElf({ machine: 183 }), /not for x86-64 but for arm64/],
      ['a vmlinux of s390', bigEndian, /not for x86-64 but for s390/],
      ['xen.gz', gzipSync(xen), /not for x86-64 but for i386 \(32 bits\)/],
      ['a 32-bit bzImage', makeBzImage({ payload: gzipSync(xen) }), /not for x86-64 but for i386/],
      ['a module', makeElf({ type: 1 }), /an object file or a module/],
      ['a packed module', gzipSync(makeElf({ type: 1 })), /an object file or a module/],
      ['a program', makeElf({ segments: [{ type: 3, data: code }] }), /is a program, which a kernel runs/],
      ['a unified kernel image', makePe(0x8664, ['.linux']), /a unified kernel image for x86-64/],
      ['an initramfs', gzipSync(Buffer.from('070701')), /neither .* nor a bzImage, but an initramfs/],
      ['a bzImage of 200 bytes', Buffer.from('MZ'.padEnd(200, '\0')), /the beginning of a bzImage/],
      ['a cut .gz', gzipSync(elf).subarray(0, 40), /cannot unpack the kernel file/],
      ['a bomb', gzipSync(new Uint8Array(9 << 20)), /cannot unpack the kernel file: unpacks to more than/],
    ];
    return rows.map(([name, bytes, message]) => [
      name,
      { image: bytesSource(bytes) },
      'TSVM_KERNEL_IMAGE',
      message,
    ]);
  }

  const bad: Refusal[] = [
    ['an empty file', { image: bytesSource(new Uint8Array()) }, 'TSVM_KERNEL_IMAGE', /is empty/],
    ['something else', { image: bytesSource(Buffer.from('hello')) }, 'TSVM_KERNEL_IMAGE', /not a kernel/],
    ...kinds(),
    ['an ELF kernel as bzImage', { entry: 'bzimage' }, 'TSVM_KERNEL_IMAGE', /no bzImage entry/],
    [
      'PVH without its note',
      { image: bytesSource(makeElf()), entry: 'pvh' },
      'TSVM_KERNEL_IMAGE',
      /no PVH entry/,
    ],
    [
      'a bzImage that needs more than there is',
      { image: bytesSource(makeBzImage({ initSize: 1 << 24 })), entry: 'bzimage' },
      'TSVM_KERNEL_IMAGE',
      /does not fit/,
    ],
    [
      'a 32-bit bzImage',
      { image: bytesSource(makeBzImage({ patch: (v) => v.setUint16(0x236, 0) })), entry: 'bzimage' },
      'TSVM_KERNEL_IMAGE',
      /not for x86-64/,
    ],
    [
      'a long command line',
      { cmdline: 'x'.repeat(2048) },
      'TSVM_CMDLINE',
      /2048 bytes, this kernel takes 2047/,
    ],
    ['an initramfs larger than RAM', { initrd: [new Uint8Array(9 << 20)] }, 'TSVM_INITRD', /does not fit/],
  ];
  it.each(bad)('refuses %s', async (_, change, code, message) => {
    const loaded = loadLinux(ram(), { ...options, ...change });
    await expect(loaded).rejects.toThrowError(message);
    await expect(loaded).rejects.toMatchObject({ code });
  });
});
