/**
 * LZ4 in the legacy frame that the kernel uses (lz4 -l; lib/decompress_unlz4.c): blocks of at most 8 MiB, each after
 * its compressed length.
 *
 * Written here because the packages that npm has are native builds or, like lz4js, know neither this frame nor any
 * bounds; the block format (lz4_Block_format.md) is one loop.
 */
import { DecompressError, type Unpacked } from './error.js';
import { OutputBuffer } from './output.js';

export const LZ4_LEGACY_MAGIC = 0x184c_2102;
const BLOCK_BYTES = 8 << 20;
/** LZ4_compressBound: a length beyond it belongs to whatever follows the frame. */
const MAX_COMPRESSED_BYTES = BLOCK_BYTES + Math.floor(BLOCK_BYTES / 255) + 16;
const MIN_MATCH = 4;
const LENGTH_ESCAPE = 15;

export function unlz4(bytes: Uint8Array, maxBytes: number, expectedBytes?: number): Unpacked {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out = new OutputBuffer(maxBytes, expectedBytes);
  let at = 4;
  while (at + 4 <= bytes.length) {
    const length = view.getUint32(at, true);
    if (length === LZ4_LEGACY_MAGIC) {
      at += 4;
      continue;
    }
    if (length === 0 || length > MAX_COMPRESSED_BYTES) break;
    if (at + 4 + length > bytes.length) throw new DecompressError('LZ4 data is truncated');
    unpackBlock(bytes.subarray(at + 4, at + 4 + length), out);
    at += 4 + length;
  }
  return { data: out.result(), consumedBytes: at };
}

function unpackBlock(block: Uint8Array, out: OutputBuffer): void {
  const start = out.length;
  let at = 0;
  // Reads past the end give 0, and are found out by the checks below.
  const more = (length: number): number => {
    if (length !== LENGTH_ESCAPE) return length;
    let byte: number;
    do {
      byte = block[at++] ?? 0;
      length += byte;
    } while (byte === 0xff);
    return length;
  };
  for (;;) {
    const token = block[at++] ?? 0;
    const literals = more(token >>> 4);
    if (at + literals > block.length) throw new DecompressError('LZ4 data is damaged: literals past the end');
    if (literals > 0) {
      out.reserve(literals);
      out.bytes.set(block.subarray(at, at + literals), out.length);
      out.length += literals;
      at += literals;
    }
    if (at === block.length) break;

    const distance = (block[at] ?? 0) | ((block[at + 1] ?? 0) << 8);
    at += 2;
    const length = more(token & 0xf) + MIN_MATCH;
    if (at > block.length || distance === 0 || distance > out.length - start) {
      throw new DecompressError('LZ4 data is damaged: a match reaches before its block');
    }
    out.reserve(length);
    const { bytes } = out;
    const end = out.length + length;
    if (distance >= length) {
      bytes.copyWithin(out.length, out.length - distance, end - distance);
    } else {
      for (let to = out.length; to < end; to++) bytes[to] = bytes[to - distance] as number;
    }
    out.length = end;
  }
  if (out.length - start > BLOCK_BYTES)
    throw new DecompressError('LZ4 data is damaged: a block of more than 8 MiB');
}
