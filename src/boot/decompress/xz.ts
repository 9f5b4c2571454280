/**
 * The .xz format (xz-file-format.txt 1.1.0) with what kernels use: LZMA2, before it optionally the x86 branch filter,
 * and checks none, CRC32, CRC64 or SHA-256, of which CRC64 is not verified (the kernel cannot unpack it either).
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { DecompressError, type Unpacked } from './error.js';
import { LzmaDecoder } from './lzma-decoder.js';
import { OutputBuffer } from './output.js';
import { undoX86Filter } from './x86-filter.js';

const STREAM_HEADER_BYTES = 12;
const STREAM_FOOTER_BYTES = 12;
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
const CHECK_CRC64 = 4;
const CHECK_SHA256 = 10;
/** Bytes of a check by its number: 2.1.1.2. */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64] as const;
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
const MAX_VLI_BYTES = 9;

// LZMA2 control bytes (xz, lzma2_decoder.c).
const LZMA2_END = 0x00;
const LZMA2_COPY_RESET_DICTIONARY = 0x01;
const LZMA2_COPY = 0x02;
const LZMA2_LZMA = 0x80;

/** Unpacks one stream. */
export function unxz(bytes: Uint8Array, maxBytes: number, expectedBytes?: number): Unpacked {
  const input = new Cursor(bytes);
  const out = new OutputBuffer(maxBytes, expectedBytes);
  const check = streamHeader(input);
  while (input.peek() !== 0) block(input, out, check);
  index(input);
  const footer = input.take(STREAM_FOOTER_BYTES);
  if (footer[10] !== 0x59 || footer[11] !== 0x5a) throw new DecompressError('xz data is damaged: no footer');
  return { data: out.result(), consumedBytes: input.position };
}

function streamHeader(input: Cursor): number {
  const header = input.take(STREAM_HEADER_BYTES);
  if (u32(header, 8) !== crc32(header.subarray(6, 8)))
    throw new DecompressError('xz data is damaged: bad header');
  const check = header[7] ?? 0;
  if (header[6] !== 0 || check > 15) throw new DecompressError('xz data of an unknown version');
  return check;
}

function block(input: Cursor, out: OutputBuffer, check: number): void {
  const start = input.position;
  const headerBytes = (input.peek() + 1) * 4;
  const header = new Cursor(input.take(headerBytes));
  if (u32(header.bytes, headerBytes - 4) !== crc32(header.bytes.subarray(0, headerBytes - 4))) {
    throw new DecompressError('xz data is damaged: bad block header');
  }
  header.position = 1;
  const flags = header.u8();
  if ((flags & 0x40) !== 0) header.vli();
  if ((flags & 0x80) !== 0) header.vli();
  const filters: { id: number; properties: Uint8Array }[] = [];
  for (let i = 0; i <= (flags & 3); i++) {
    const id = header.vli();
    filters.push({ id, properties: header.take(header.vli()) });
  }
  const before = filters.slice(0, -1);
  const unknown =
    before.find(({ id }) => id !== FILTER_X86) ?? filters.slice(-1).find(({ id }) => id !== FILTER_LZMA2);
  if (unknown !== undefined || before.length > 1) {
    throw new DecompressError(
      `xz filter 0x${(unknown?.id ?? FILTER_X86).toString(16)} is not supported here`,
    );
  }

  const outStart = out.length;
  lzma2(input, out);
  const data = out.bytes.subarray(outStart, out.length);
  const [x86] = before;
  if (x86 !== undefined) undoX86Filter(data, x86.properties.length === 4 ? u32(x86.properties, 0) : 0);

  input.take((4 - ((input.position - start) % 4)) % 4);
  verify(data, check, input.take(CHECK_BYTES[check] ?? 0));
}

function verify(data: Uint8Array, check: number, expected: Uint8Array): void {
  let isRight: boolean;
  if (check === CHECK_CRC32) isRight = u32(expected, 0) === crc32(data);
  else if (check === CHECK_SHA256) isRight = createHash('sha256').update(data).digest().equals(expected);
  else isRight = check === CHECK_NONE || check === CHECK_CRC64;
  if (!isRight) throw new DecompressError('xz data is damaged: checksum differs');
}

function lzma2(input: Cursor, out: OutputBuffer): void {
  const decoder = new LzmaDecoder(input.bytes, out);
  let needsDictionary = true;
  let needsProperties = true;
  for (;;) {
    const control = input.u8();
    if (control === LZMA2_END) return;
    if (control === LZMA2_COPY_RESET_DICTIONARY || control >= 0xe0) {
      decoder.resetDictionary();
      needsDictionary = false;
      needsProperties = true;
    }
    if (needsDictionary) throw new DecompressError('xz data is damaged: no dictionary reset');

    if (control < LZMA2_LZMA) {
      if (control > LZMA2_COPY) throw new DecompressError('xz data is damaged: bad LZMA2 chunk');
      const chunk = input.take(input.u16be() + 1);
      out.reserve(chunk.length);
      out.bytes.set(chunk, out.length);
      out.length += chunk.length;
      continue;
    }
    const unpackedBytes = (control & 0x1f) * 0x1_0000 + input.u16be() + 1;
    const packedBytes = input.u16be() + 1;
    if (control >= 0xc0) {
      decoder.setProperties(input.u8());
      needsProperties = false;
    }
    if (needsProperties) throw new DecompressError('xz data is damaged: no LZMA properties');
    if (control >= 0xa0) decoder.resetState();
    const end = input.position + packedBytes;
    decoder.position = input.position;
    decoder.startRange();
    if (decoder.decode(out.length + unpackedBytes, end) || decoder.isMidMatch) {
      throw new DecompressError('xz data is damaged: a chunk of wrong length');
    }
    decoder.normalize();
    if (decoder.position !== end || !decoder.isRangeFinished) {
      throw new DecompressError('xz data is damaged: a chunk of wrong length');
    }
    input.position = end;
  }
}

/** The index at the end of a stream is skipped: blocks check themselves. */
function index(input: Cursor): void {
  const start = input.position;
  input.u8();
  const records = input.vli();
  for (let i = 0; i < records; i++) {
    input.vli();
    input.vli();
  }
  input.take((4 - ((input.position - start) % 4)) % 4);
  const length = input.position - start;
  if (u32(input.take(4), 0) !== crc32(input.bytes.subarray(start, start + length))) {
    throw new DecompressError('xz data is damaged: bad index');
  }
}

class Cursor {
  readonly bytes: Uint8Array;
  position = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  peek(): number {
    const byte = this.bytes[this.position];
    if (byte === undefined) throw new DecompressError('xz data is truncated');
    return byte;
  }

  u8(): number {
    const byte = this.peek();
    this.position += 1;
    return byte;
  }

  u16be(): number {
    return this.u8() * 0x100 + this.u8();
  }

  /** A variable-length integer (1.2). */
  vli(): number {
    let value = 0;
    for (let i = 0; i < MAX_VLI_BYTES; i++) {
      const byte = this.u8();
      value += (byte & 0x7f) * 2 ** (7 * i);
      if ((byte & 0x80) === 0) return value;
    }
    throw new DecompressError('xz data is damaged: bad integer');
  }

  take(count: number): Uint8Array {
    const end = this.position + count;
    if (!(end <= this.bytes.length)) throw new DecompressError('xz data is truncated');
    const taken = this.bytes.subarray(this.position, end);
    this.position = end;
    return taken;
  }
}

function u32(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(offset, true);
}
