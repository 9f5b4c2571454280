import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isBzImage, parseBzImage, unpackPayload } from '../../../src/boot/bzimage.js';
import { TsvmError } from '../../../src/errors.js';
import { runXz } from '../../../src/host/process/program-filter.js';
import { makeBzImage, makeElf } from './images.js';

const elf = makeElf();

/** The payload of every format but gzip: the data, then its unpacked length. */
function withLength(packed: Uint8Array, length: number): Uint8Array {
  const payload = new Uint8Array(packed.length + 4);
  payload.set(packed);
  new DataView(payload.buffer).setUint32(packed.length, length, true);
  return payload;
}

describe('parseBzImage()', () => {
  it('reads the setup header', () => {
    const bytes = makeBzImage({ prefAddress: 0x100_0000n, initSize: 0x20_0000 });
    expect(isBzImage(bytes)).toBe(true);
    const image = parseBzImage(bytes);
    expect(image).toMatchObject({
      loadAddr: 0x100_0000,
      entry64: 0x100_0200,
      initBytes: 0x20_0000,
      cmdlineLimit: 2047,
      initrdAddrMax: 0x7fff_ffff,
    });
    expect(image.setupHeader[0]).toBe(1);
    expect(image.setupHeader.length).toBe(0x202 + 0x6a - 0x1f1);
  });

  it('takes setup_sects 0 for 4 (boot.rst)', async () => {
    const image = parseBzImage(makeBzImage({ setupSects: 0 }));
    expect(Buffer.compare(await unpackPayload(image, runXz), elf)).toBe(0);
  });

  it('loads at 1 MiB where the header prefers nothing', () => {
    expect(parseBzImage(makeBzImage({ prefAddress: 0n })).loadAddr).toBe(0x10_0000);
  });

  it('has no 64-bit entry without XLF_KERNEL_64', () => {
    const bytes = makeBzImage({ patch: (view) => view.setUint16(0x236, 0, true) });
    expect(parseBzImage(bytes).entry64).toBeUndefined();
  });

  const bad: [string, (view: DataView) => void, RegExp][] = [
    ['an old boot protocol', (view) => view.setUint16(0x206, 0x020b, true), /boot protocol 2\.11/],
    ['setup_sects past the end', (view) => view.setUint8(0x1f1, 255), /truncated: its kernel starts/],
    [
      'a payload length that lies',
      (view) => view.setUint32(0x24c, 0xffff_fff0, true),
      /names 4294967280 bytes/,
    ],
    ['a payload offset that lies', (view) => view.setUint32(0x248, 0xffff_ff00, true), /0 are there/],
    ['a header that ends too soon', (view) => view.setUint8(0x201, 0x10), /header ends at 0x212/],
    ['a header that ends too late', (view) => view.setUint8(0x201, 0xff), /header ends at 0x301/],
    ['an address beyond 2^53', (view) => view.setBigUint64(0x258, 1n << 60n, true), /pref_address/],
  ];
  it.each(bad)('refuses %s', (_, patch, message) => {
    expect(() => parseBzImage(makeBzImage({ patch }))).toThrowError(message);
  });

  it('fails with nothing but TsvmError on any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0x1f1, max: 0x700 }), fc.nat(255)), { maxLength: 6 }),
        fc.nat(0x500),
        async (edits, cut) => {
          const bytes = makeBzImage();
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          try {
            await unpackPayload(
              parseBzImage(bytes.subarray(0, bytes.length - (cut < 0x300 ? 0 : cut))),
              runXz,
              1 << 24,
            );
          } catch (error) {
            expect(error).toBeInstanceOf(TsvmError);
          }
        },
      ),
    );
  });
});

describe('unpackPayload()', () => {
  it('unpacks gzip, whose trailer is the length', async () => {
    expect(Buffer.compare(await unpackPayload(parseBzImage(makeBzImage()), runXz), elf)).toBe(0);
  });

  const packed = gzipSync(elf);
  const bad: [string, Uint8Array, RegExp][] = [
    ['an unknown format', withLength(Buffer.from('something else'), 100), /unknown compression/],
    ['a length of 0', withLength(Buffer.from('something else'), 0), /claims to unpack to 0 bytes/],
    [
      'a length of 4 GiB',
      withLength(Buffer.from('something else'), 0xffff_ffff),
      /claims to unpack to 4294967295/,
    ],
    ['data that unpack to more than announced', withLength(packed, 10), /more than 10 bytes/],
    ['damaged data', Buffer.concat([packed.subarray(0, 20), packed.subarray(30)]), /cannot unpack/],
    ['a few bytes', Uint8Array.of(1, 2, 3), /names no payload/],
  ];
  it.each(bad)('refuses %s', async (_, payload, message) => {
    const unpacked = unpackPayload(parseBzImage(makeBzImage({ payload })), runXz);
    await expect(unpacked).rejects.toThrowError(message);
    await expect(unpacked).rejects.toMatchObject({ code: 'TSVM_KERNEL_IMAGE' });
  });

  it('refuses more than the machine could hold before unpacking it', async () => {
    await expect(unpackPayload(parseBzImage(makeBzImage()), runXz, 64)).rejects.toThrowError(/does not fit/);
  });
});
