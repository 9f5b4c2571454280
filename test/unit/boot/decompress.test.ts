import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compressionFormat, decompress, decompressFirst } from '../../../src/boot/decompress/decompress.js';
import { DecompressError } from '../../../src/boot/decompress/error.js';
import { runXz } from '../../../src/host/program-filter.js';
import { sample } from './fixtures/sample.js';

const expected = sample();
const maxBytes = 1 << 20;

/** Made by Debian's tools with the kernel's options: fixtures/make. */
const fixtures = [
  ['gzip', 'sample.gz'],
  ['bzip2', 'sample.bz2'],
  ['lzma', 'sample.lzma'],
  ['xz', 'sample.xz'],
  ['xz', 'sample-blocks.xz'],
  ['lz4', 'sample.lz4'],
  ['zstd', 'sample.zst'],
  ['zstd', 'sample-sized.zst'],
] as const;

function fixture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`fixtures/${name}`, import.meta.url)));
}

describe.each(fixtures)('decompress() of %s (%s)', (format, name) => {
  const packed = fixture(name);
  /** A process for every try. */
  const byProgram = format === 'xz' || format === 'lzma';

  it('knows the format and unpacks it', async () => {
    expect(compressionFormat(packed)).toBe(format);
    expect(
      Buffer.compare(
        await decompress(packed, { xz: runXz, maxBytes, exactBytes: expected.length }),
        expected,
      ),
    ).toBe(0);
  });

  it('tells where the data end', async () => {
    const followed = Buffer.concat([packed, Buffer.from('\0\0\0\x070701 more')]);
    const { data, consumedBytes } = await decompressFirst(followed, { xz: runXz, maxBytes });
    expect(Buffer.compare(data, expected)).toBe(0);
    // LZ4's frame has no end of its own but the next length, which may be zero.
    expect(consumedBytes).toBe(packed.length);
  });

  it('takes a limit of exactly what comes out, and stops a bomb at one byte less', async () => {
    await decompress(packed, { xz: runXz, maxBytes: expected.length });
    const bomb = decompress(packed, { xz: runXz, maxBytes: expected.length - 1 });
    await expect(bomb).rejects.toThrowError(/more than 24575 bytes/);
    await expect(bomb).rejects.toBeInstanceOf(DecompressError);
  });

  it('refuses a length that differs from the one announced', async () => {
    const exactBytes = expected.length - 1;
    await expect(decompress(packed, { xz: runXz, maxBytes, exactBytes })).rejects.toThrowError(
      /unpacked to 24576 bytes/,
    );
  });

  it('fails with nothing but DecompressError on truncated data', async () => {
    for (let length = 0; length < packed.length; length += byProgram ? 2000 : 1 + (length >>> 5)) {
      await decompress(packed.subarray(0, length), { xz: runXz, maxBytes }).then(
        () => undefined,
        (error: unknown) => expect(error).toBeInstanceOf(DecompressError),
      );
    }
    await expect(
      decompress(packed.subarray(0, packed.length / 2), { xz: runXz, maxBytes, exactBytes: expected.length }),
    ).rejects.toBeInstanceOf(DecompressError);
  });

  it('fails with nothing but DecompressError on damaged data', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(packed.length - 1), fc.nat(255)), { maxLength: 4 }),
        async (edits) => {
          const damaged = packed.slice();
          for (const [at, value] of edits) damaged[at] = value;
          await decompress(damaged, { xz: runXz, maxBytes }).then(
            (data) => expect(data.length).toBeLessThanOrEqual(maxBytes),
            (error: unknown) => expect(error).toBeInstanceOf(DecompressError),
          );
        },
      ),
      { numRuns: byProgram ? 4 : 40 },
    );
  });
});

describe('decompress()', () => {
  it('notices damage by the checksum', async () => {
    for (const name of ['sample.gz', 'sample.bz2', 'sample.xz', 'sample-blocks.xz']) {
      const damaged = fixture(name);
      const at = damaged.length >>> 1;
      damaged[at] = (damaged[at] ?? 0) ^ 0x10;
      await expect(decompress(damaged, { xz: runXz, maxBytes }), name).rejects.toBeInstanceOf(
        DecompressError,
      );
    }
  });

  it('unpacks gzip with a name, a comment and an extra field', async () => {
    const plain = gzipSync(expected);
    const header = Buffer.from(plain.subarray(0, 10));
    header[3] = 0x1c;
    const named = Buffer.concat([
      header,
      Buffer.from('\x02\0ab', 'latin1'),
      Buffer.from('vmlinux\0note\0'),
      plain.subarray(10),
    ]);
    expect(Buffer.compare(await decompress(named, { xz: runXz, maxBytes }), expected)).toBe(0);
  });

  it.each([
    ['nothing', Uint8Array.of(), /unknown compression \(it starts with nothing\)/],
    ['text', Buffer.from('hello world'), /unknown compression \(it starts with 68656c6c6f20\)/],
    ['LZO', Uint8Array.of(0x89, 0x4c, 0x5a, 0x4f, 0), /LZO is not supported/],
  ])('refuses %s', async (_, bytes, message) => {
    await expect(decompress(bytes, { xz: runXz, maxBytes })).rejects.toThrowError(message);
  });

  it('stops a gzip bomb without unpacking it', async () => {
    const bomb = gzipSync(new Uint8Array(64 << 20));
    await expect(decompress(bomb, { xz: runXz, maxBytes })).rejects.toThrowError(/more than 1048576 bytes/);
  });
});
