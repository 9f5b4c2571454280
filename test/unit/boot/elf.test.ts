import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../../src/boot/byte-source.js';
import { isElf, loadElf, parseElf } from '../../../src/boot/elf.js';
import { TsvmError } from '../../../src/errors.js';
import { makeElf, ram, type SegmentSpec, xenNote } from './images.js';

const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const code = Uint8Array.of(0xf4, 0xeb, 0xfd);

const parse = (bytes: Uint8Array) => parseElf(bytesSource(bytes));

async function problemOf(bytes: Uint8Array): Promise<string> {
  try {
    await parse(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(TsvmError);
    expect((error as TsvmError).code).toBe('TSVM_KERNEL_IMAGE');
    return (error as TsvmError).message;
  }
  return 'none';
}

describe('parseElf()', () => {
  it('finds segments in ascending order, entry and extent', async () => {
    const image = await parse(
      makeElf({
        entry: 0x200001n,
        segments: [
          { paddr: 0x300000n, data: code, memsz: 0x2000n },
          { paddr: 0x200000n, data: code },
        ],
      }),
    );
    expect(image.segments.map(({ addr }) => addr)).toEqual([0x200000, 0x300000]);
    expect(image.segments[0]).toMatchObject({ fileBytes: code.length, memoryBytes: code.length });
    expect(image).toMatchObject({
      entry: 0x200001,
      pvhEntry: undefined,
      startAddr: 0x200000,
      endAddr: 0x302000,
    });
  });

  it('takes an entry that is a virtual address', async () => {
    const segments = [{ paddr: 0x200000n, vaddr: 0xc000_0000n, data: code }];
    expect((await parse(makeElf({ entry: 0xc000_0002n, segments }))).entry).toBe(0x200002);
  });

  it.each([
    ['4 bytes', Uint8Array.of(0x20, 0, 0x10, 0)],
    ['8 bytes', Uint8Array.of(0x20, 0, 0x10, 0, 0, 0, 0, 0)],
  ])('finds the PVH entry in a note of %s, behind other notes', async (_, value) => {
    const notes = Buffer.concat([
      xenNote(6, Buffer.from('linux\0')),
      xenNote(XEN_ELFNOTE_PHYS32_ENTRY, value),
    ]);
    const segments = [
      { paddr: 0x100000n, data: code, memsz: 0x1000n },
      { type: PT_NOTE, data: notes },
    ];
    expect((await parse(makeElf({ segments }))).pvhEntry).toBe(0x100020);
  });

  const bad: [string, Uint8Array, RegExp][] = [
    ['a text file', Buffer.from('#!/bin/sh\nexit 0\n'.repeat(20)), /not an ELF/],
    ['another architecture', makeElf({ machine: 183 }), /not for x86-64/],
    ['an object file', makeElf({ type: 1 }), /not an executable/],
    ['no segments', makeElf({ segments: [] }), /nothing to load/],
    ['a cut header', makeElf().subarray(0, 40), /truncated/],
    ['cut program headers', makeElf().subarray(0, 100), /truncated/],
    ['a cut segment', makeElf({ segments: [{ paddr: 0x100000n, data: code }] }).subarray(0, -1), /truncated/],
    ['program headers of a strange size', makeElf({ phentsize: 32 }), /e_phentsize is 32/],
    ['too many program headers', makeElf({ phnum: 0xffff }), /65535 program headers/],
    ['an entry outside', makeElf({ entry: 0x10n }), /entry 0x10 lies in no segment/],
  ];
  it.each(bad)('refuses %s', async (_, bytes, message) => {
    expect(await problemOf(bytes)).toMatch(message);
  });

  const badSegments: [string, SegmentSpec[], RegExp][] = [
    ['memsz < filesz', [{ paddr: 0x100000n, data: code, memsz: 2n }], /3 bytes for 2 bytes of memory/],
    [
      'overlapping',
      [
        { paddr: 0x100000n, memsz: 0x1001n },
        { paddr: 0x101000n, data: code },
      ],
      /overlap at 0x101000/,
    ],
    ['below 1 MiB', [{ paddr: 0x8000n, data: code, memsz: 0x200000n }], /below 1 MiB/],
    ['whose address wraps', [{ paddr: 0xffff_ffff_ffff_f000n, memsz: 0x2000n }], /p_paddr/],
    ['whose size wraps', [{ paddr: 0x1f_ffff_ffff_f000n, memsz: 0x2000n }], /beyond the address space/],
    ['whose offset wraps', [{ paddr: 0x100000n, data: code, offset: 0xffff_ffff_ffff_ffffn }], /p_offset/],
    ['with file bytes past the end', [{ paddr: 0x100000n, filesz: 0x10n, memsz: 0x10n }], /truncated/],
  ];
  it.each(badSegments)('refuses segments %s', async (_, segments, message) => {
    expect(await problemOf(makeElf({ segments }))).toMatch(message);
  });

  it('refuses a PVH note whose entry lies nowhere, whose length lies, or that claims megabytes', async () => {
    const withNote = (note: SegmentSpec): Uint8Array =>
      makeElf({
        segments: [
          { paddr: 0x100000n, data: code },
          { type: PT_NOTE, ...note },
        ],
      });
    expect(await problemOf(withNote({ data: xenNote(18, Uint8Array.of(1, 0, 0, 0)) }))).toMatch(
      /PVH entry 0x1/,
    );
    expect(await problemOf(withNote({ data: xenNote(18, Uint8Array.of(1)) }))).toMatch(
      /PVH note has 1 bytes/,
    );
    expect(await problemOf(withNote({ data: xenNote(18, code, 0xffff_ffff) }))).toMatch(/truncated/);
    expect(await problemOf(withNote({ filesz: 0x100_0000n }))).toMatch(/bytes of notes/);
  });

  it('fails with nothing but TsvmError on any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 8 }),
        fc.nat(200),
        async (edits, cut) => {
          const bytes = makeElf({
            segments: [
              { paddr: 0x100000n, data: code, memsz: 0x1000n },
              { type: PT_NOTE, data: xenNote(18, Uint8Array.of(0, 0, 0x10, 0)) },
            ],
          });
          for (const [at, value] of edits) bytes[at % bytes.length] = value;
          await problemOf(bytes.subarray(0, Math.max(0, bytes.length - (cut < 100 ? 0 : cut))));
        },
      ),
    );
  });
});

describe('loadElf()', () => {
  it('copies the bytes and zeroes the rest of each segment', async () => {
    const memory = ram(4 << 20, 0xaa);
    const source = bytesSource(makeElf({ segments: [{ paddr: 0x100000n, data: code, memsz: 0x10n }] }));
    await loadElf(memory, source, await parseElf(source));
    expect([...memory.read(0xfffff, 0x12)]).toEqual([0xaa, ...code, ...new Array(13).fill(0), 0xaa]);
  });

  it.each([
    ['beyond RAM', 0x3f_f000n, 0x2000n],
    ['in the MMIO hole', 0xc000_0000n, 0x1000n],
  ])('refuses a segment %s and writes nothing', async (_, paddr, memsz) => {
    const memory = ram(4 << 20);
    const source = bytesSource(
      makeElf({
        segments: [
          { paddr: 0x100000n, data: code },
          { paddr, memsz },
        ],
      }),
    );
    const loaded = loadElf(memory, source, await parseElf(source));
    await expect(loaded).rejects.toThrowError(/does not fit.*4 MiB/);
    expect(memory.readU8(0x100000)).toBe(0);
  });
});

describe('isElf()', () => {
  it('looks at four bytes', async () => {
    expect(isElf(makeElf())).toBe(true);
    expect(isElf(Uint8Array.of(0x7f, 0x45, 0x4c))).toBe(false);
  });
});
