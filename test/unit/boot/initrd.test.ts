import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { writeCpio } from '../../../src/boot/cpio.js';
import { initrdBytes, writeInitrd } from '../../../src/boot/initrd.js';
import { unpackInitrd } from '../../../src/boot/unpack-initrd.js';
import { TsvmError } from '../../../src/errors.js';
import { runXz } from '../../../src/host/program-filter.js';
import { S_IFREG } from '../../../src/util/file-mode.js';
import { ram } from './images.js';

const MIB = 2 ** 20;

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
  const first = writeCpio([{ path: 'a', mode: S_IFREG | 0o644, data: Buffer.from('first') }]);
  const second = writeCpio([{ path: 'b', mode: S_IFREG | 0o644, data: Buffer.from('second') }]);
  const plain = (archives: readonly Uint8Array[]): string[] =>
    archives.map((a) => Buffer.from(a).toString('latin1'));

  it('leaves an uncompressed archive as it is, its bytes included', async () => {
    const [archive, ...rest] = await unpackInitrd(first, runXz);
    expect(rest).toEqual([]);
    expect(archive?.buffer).toBe(first.buffer);
  });

  it('takes archives one after another, compressed or not, with zeros between', async () => {
    const whole = Buffer.concat([
      first,
      Buffer.alloc(512),
      gzipSync(second),
      Buffer.alloc(3),
      gzipSync(first),
      second,
    ]);
    expect(plain(await unpackInitrd(whole, runXz))).toEqual(plain([first, second, first, second]));
  });

  const bad: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(), /is empty/],
    ['nothing but zeros', new Uint8Array(1024), /is empty/],
    ['something else', Buffer.from('#!/bin/sh'), /not an initramfs/],
    ['rubbish behind an archive', Buffer.concat([first, Buffer.from('rubbish')]), /unknown data at byte \d+/],
    ['a truncated archive', first.subarray(0, 116), /truncated/],
    ['an archive with a bad header', Buffer.from('070701'.padEnd(110, 'z')), /bad archive header/],
    ['a truncated stream', gzipSync(first).subarray(0, 40), /cannot unpack/],
  ];
  it.each(bad)('refuses %s', async (_, bytes, message) => {
    const unpacked = unpackInitrd(bytes, runXz);
    await expect(unpacked).rejects.toThrowError(message);
    await expect(unpacked).rejects.toMatchObject({ code: 'TSVM_INITRD' });
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
