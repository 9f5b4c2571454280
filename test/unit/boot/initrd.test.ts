import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { writeCpio } from '../../../src/boot/cpio.js';
import { initrdBytes, writeInitrd } from '../../../src/boot/initrd.js';
import { unpackInitrd } from '../../../src/boot/unpack-initrd.js';
import { TsvmError } from '../../../src/errors.js';
import { runXz } from '../../../src/host/program-filter.js';
import { S_IFREG } from '../../../src/util/file-mode.js';
import { skipAll } from '../../support/skip.js';
import { missingProgram } from '../../support/skip-reasons.js';
import { makeBzImage, ram } from './images.js';

const MIB = 2 ** 20;
const noCpio = missingProgram('cpio');

describe('writeInitrd()', () => {
  it('places it page-aligned at the end of RAM', () => {
    const memory = ram(8 * MIB);
    const data = Uint8Array.of(1, 2, 3, 4, 5);
    expect(writeInitrd(memory, [data], { kernelEnd: 2 * MIB })).toEqual({
      addr: 8 * MIB - 0x1000,
      length: 5,
    });
    expect(memory.read(8 * MIB - 0x1000, 5)).toEqual(data);
  });

  it("stays below the kernel's limit", () => {
    const placed = writeInitrd(ram(8 * MIB), [new Uint8Array(0x1001)], {
      kernelEnd: 2 * MIB,
      addrMax: 4 * MIB - 1,
    });
    expect(placed).toEqual({ addr: 4 * MIB - 0x2000, length: 0x1001 });
  });

  it('starts every segment at a multiple of four, with zeros between', () => {
    const memory = ram(8 * MIB, 0xff);
    const segments = [Uint8Array.of(1, 2, 3, 4, 5), Uint8Array.of(6)];
    const placed = writeInitrd(memory, segments, { kernelEnd: MIB });
    expect(initrdBytes(segments)).toBe(9);
    expect(memory.read(placed?.addr ?? 0, 9)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 0, 0, 0, 6));
  });

  it('writes nothing for nothing', () => {
    expect(writeInitrd(ram(2 * MIB), [], { kernelEnd: MIB })).toBeUndefined();
    expect(writeInitrd(ram(2 * MIB), [new Uint8Array()], { kernelEnd: MIB })).toBeUndefined();
  });

  it.each([
    ['larger than what the kernel leaves', 6 * MIB + 1],
    ['larger than RAM', 9 * MIB],
  ])('refuses one %s and says how much memory it takes', (_, length) => {
    const place = (): unknown => writeInitrd(ram(8 * MIB), [new Uint8Array(length)], { kernelEnd: 2 * MIB });
    expect(place).toThrowError(
      expect.objectContaining({ code: 'TSVM_INITRD', hint: expect.stringMatching(/at least (9|11) MiB/) }),
    );
  });
});

describe('unpackInitrd()', () => {
  const member = (path: string, text: string): Uint8Array =>
    writeCpio([{ path, mode: S_IFREG | 0o644, data: Buffer.from(text) }]);
  const first = member('a', 'first');
  const second = member('b', 'second '.repeat(9000));
  const plain = (archives: readonly Uint8Array[]): string[] =>
    archives.map((a) => Buffer.from(a).toString('latin1'));

  /** Result of unpacking, and what is said of it. */
  async function unpack(
    ...parts: readonly Uint8Array[]
  ): Promise<{ archives: string[]; warnings: string[] }> {
    const warnings: string[] = [];
    const archives = await unpackInitrd(Buffer.concat(parts), runXz, 1 << 20, (text) => warnings.push(text));
    return { archives: plain(archives), warnings };
  }

  it('leaves an uncompressed archive as it is, its bytes included', async () => {
    const [archive, ...rest] = await unpackInitrd(first, runXz);
    expect(rest).toEqual([]);
    expect(archive?.buffer).toBe(first.buffer);
  });

  const packers = [
    ['gzip', ['gzip', '-nc']],
    ['xz', ['xz', '--check=crc32', '-c']],
    ['lzma', ['xz', '--format=lzma', '-c']],
    ['bzip2', ['bzip2', '-c']],
    ['lz4', ['lz4', '-lc']],
    ['zstd', ['zstd', '-qc']],
  ] as const;

  describe.each(packers)('with %s', (_, [program, ...args]) => {
    skipAll(missingProgram(program, program === 'xz' ? 'xz-utils' : program));

    const packed = (bytes: Uint8Array): Uint8Array => {
      const { status, stdout, stderr } = spawnSync(program, args, { input: bytes });
      expect(status, String(stderr)).toBe(0);
      return stdout;
    };
    const padding = (length: number): Uint8Array => new Uint8Array(length);
    const padded = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes, padding(-bytes.length & 3)]);

    it('takes microcode, a packed archive and modules, in whatever order and with zeros between', async () => {
      const main = packed(second);
      const orders: [Uint8Array[], Uint8Array[]][] = [
        [
          [first, main, padding(4), first],
          [first, second, first],
        ],
        [
          [main, padding(512), gzipSync(first), padding(7), main],
          [second, first, second],
        ],
        [
          [padding(512), padded(main), main],
          [second, second],
        ],
      ];
      for (const [parts, archives] of orders) {
        const unpacked = await unpack(...parts);
        // zstd's neighbouring frames are unpacked together.
        expect(unpacked.archives.join('')).toBe(plain(archives).join(''));
        expect(unpacked.warnings).toEqual([]);
      }
    });

    it('says what is wrong with one that is cut, or is none', async () => {
      await expect(unpack(first, packed(second).subarray(0, -20))).rejects.toThrowError(
        /cannot unpack the initramfs/,
      );
      await expect(unpack(packed(second.subarray(0, 300)))).rejects.toThrowError(/ends within a file/);
      await expect(unpack(packed(Buffer.from('hello')))).rejects.toThrowError(
        /unpacks to is not an initramfs.*, but a text/,
      );
    });

    it('leaves out what Linux does not read', async () => {
      const { archives, warnings } = await unpack(
        packed(Buffer.concat([first, Buffer.from('rubbish')])),
        first,
      );
      expect(archives).toEqual(plain([first]));
      expect(warnings).toEqual([expect.stringMatching(/unknown data in its archive at byte 0/)]);
      expect((await unpack(first, packed(Buffer.from('rubbish')))).archives).toEqual(plain([first]));
    });
  });

  it('takes archives of cpio, and an archive without a trailer', async ({ skip }) => {
    skip(noCpio !== undefined, noCpio);
    const { stdout } = spawnSync('cpio', ['-o', '-H', 'newc', '--quiet'], { input: 'package.json\n' });
    expect((await unpack(stdout, first)).archives).toEqual([
      expect.stringMatching(/^070701.*package/),
      ...plain([first]),
    ]);
    const trailer = Buffer.from(first).indexOf('TRAILER!!!') - 110;
    const { archives, warnings } = await unpack(
      first.subarray(0, trailer),
      gzipSync(first.subarray(0, trailer)),
    );
    expect(archives).toEqual(plain([first.subarray(0, trailer), first.subarray(0, trailer)]));
    expect(warnings).toEqual([]);
  });

  it('leaves out rubbish behind an archive, with a warning', async () => {
    const { archives, warnings } = await unpack(first, Buffer.from('rubbish'));
    expect(archives).toEqual(plain([first]));
    expect(warnings).toEqual([
      `the initramfs has unknown data at byte ${first.length}: Linux stops there, and they are left out`,
    ]);
  });

  const ext = new Uint8Array(4096);
  ext.set([0x53, 0xef], 0x438);
  const lzo = Buffer.from('\x89LZO\0\r\n\x1a\n', 'latin1');
  const bootConfig = Buffer.from('a=b\0\x04\0\0\0\xf5\0\0\0#BOOTCONFIG\n', 'latin1');
  it.each([
    ['LZO', Buffer.concat([first, lzo]), /CONFIG_RD_LZO/],
    ['a boot configuration', Buffer.concat([first, bootConfig]), /boot configuration/],
    ['an image for a RAM disk', ext, /ext file system.*CONFIG_BLK_DEV_RAM/],
    ['a packed image for a RAM disk', gzipSync(ext), /ext file system.*CONFIG_BLK_DEV_RAM/],
  ])('passes on %s as it is, with a warning', async (_, bytes, warning) => {
    const { archives, warnings } = await unpack(bytes);
    expect(archives).toEqual(plain([bytes]));
    expect(warnings).toEqual([expect.stringMatching(/^the initramfs is passed on as it is: /)]);
    expect(warnings[0]).toMatch(warning);
  });

  it('passes on what a host without xz cannot unpack', async () => {
    const bytes = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0);
    vi.stubEnv('PATH', '/nonexistent');
    const { archives, warnings } = await unpack(bytes).finally(() => vi.unstubAllEnvs());
    expect(archives).toEqual(plain([bytes]));
    expect(warnings).toEqual([expect.stringMatching(/passed on as it is: the program 'xz' is needed/)]);
  });

  const bad: [string, Uint8Array, RegExp, RegExp?][] = [
    ['an empty file', new Uint8Array(), /is empty/],
    ['nothing but zeros', new Uint8Array(1024), /is empty/],
    ['something else', Buffer.from('#!/bin/sh'), /not an initramfs.*but a text/],
    ['a kernel', makeBzImage(), /not an initramfs.*but a bzImage/, /--kernel/],
    ["cpio's old format", Buffer.from('070707'.padEnd(76, '0')), /old format/, /newc/],
    [
      'LZ4 in a frame that Linux does not take',
      Uint8Array.of(4, 0x22, 0x4d, 0x18),
      /Linux does not take/,
      /lz4 -l/,
    ],
    ['a truncated archive', first.subarray(0, 116), /truncated/],
    ['an archive that is cut in a header', second.subarray(0, 100), /truncated/],
    ['an archive that is cut in a file', second.subarray(0, 2000), /truncated/],
    ['an archive with a bad header', Buffer.from('070701'.padEnd(110, 'z')), /bad archive header/],
    ['a truncated stream', gzipSync(first).subarray(0, 40), /cannot unpack/],
  ];
  it.each(bad)('refuses %s', async (_, bytes, message, hint) => {
    const unpacked = unpackInitrd(bytes, runXz);
    await expect(unpacked).rejects.toThrowError(message);
    await expect(unpacked).rejects.toMatchObject({
      code: 'TSVM_INITRD',
      hint: expect.stringMatching(hint ?? /./),
    });
  });

  it('counts all streams against one limit', async () => {
    const whole = Buffer.concat([gzipSync(new Uint8Array(600)), gzipSync(new Uint8Array(600))]);
    await expect(unpackInitrd(whole, runXz, 1000)).rejects.toThrowError(/more than 400 bytes/);
  });

  it('fails with nothing but TsvmError on any bytes', async () => {
    const whole = Buffer.concat([first, gzipSync(second)]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 4 }),
        fc.nat(whole.length),
        async (edits, length) => {
          const damaged = Uint8Array.from(whole);
          for (const [at, value] of edits) damaged[at] = value;
          await unpackInitrd(damaged.subarray(0, length), runXz, 1 << 20).then(
            () => undefined,
            (error: unknown) => expect(error).toBeInstanceOf(TsvmError),
          );
        },
      ),
    );
  });
});
