/**
 * The .lzma format ("LZMA alone"; LZMA SDK, lzma-specification.txt): properties, dictionary size, unpacked size, data.
 */
import { DecompressError, type Unpacked } from './error.js';
import { LzmaDecoder } from './lzma-decoder.js';
import { OutputBuffer } from './output.js';

const HEADER_BYTES = 13;
const UNKNOWN_SIZE = 0xffff_ffff_ffff_ffffn;

export function unlzma(bytes: Uint8Array, maxBytes: number, expectedBytes?: number): Unpacked {
  if (bytes.length < HEADER_BYTES) throw new DecompressError('LZMA data is truncated');
  const size = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(5, true);
  if (size !== UNKNOWN_SIZE && size > BigInt(maxBytes)) {
    throw new DecompressError(`unpacks to more than ${maxBytes} bytes`);
  }
  const out = new OutputBuffer(maxBytes, size === UNKNOWN_SIZE ? expectedBytes : Number(size));
  const decoder = new LzmaDecoder(bytes, out);
  decoder.setProperties(bytes[0] ?? 0);
  decoder.resetState();
  decoder.position = HEADER_BYTES;
  decoder.startRange();
  if (size === UNKNOWN_SIZE) {
    // One more than allowed: the output buffer refuses it.
    if (!decoder.decode(maxBytes + 1, bytes.length)) throw new DecompressError('LZMA data is damaged');
  } else if (decoder.decode(Number(size), bytes.length) || decoder.isMidMatch) {
    throw new DecompressError('LZMA data is damaged: its length differs from its header');
  }
  decoder.normalize();
  return { data: out.result(), consumedBytes: decoder.position };
}
