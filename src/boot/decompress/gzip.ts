/**
 * gzip (RFC 1952) by Node's own zlib. One member at a time, so that what follows it in an initramfs is left alone.
 *
 * @spec rfc-1952 2.3  Member format  #yes
 */
import { crc32, inflateRawSync } from 'node:zlib';
import { DecompressError, type Unpacked } from './error.js';

const FHCRC = 1 << 1;
const FEXTRA = 1 << 2;
const FNAME = 1 << 3;
const FCOMMENT = 1 << 4;
const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;

export function gunzip(bytes: Uint8Array, maxBytes: number): Unpacked {
  const headerEnd = endOfHeader(bytes);
  // With `info`, zlib also returns its engine, which counts the input it took (documented; not in @types/node).
  const { buffer, engine } = inflateRawSync(bytes.subarray(headerEnd), {
    maxOutputLength: Math.max(1, maxBytes),
    info: true,
  }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
  const trailer = headerEnd + engine.bytesWritten;
  if (trailer + TRAILER_BYTES > bytes.length) throw new DecompressError('gzip data is truncated');
  const view = new DataView(bytes.buffer, bytes.byteOffset + trailer, TRAILER_BYTES);
  if (view.getUint32(0, true) !== crc32(buffer) || view.getUint32(4, true) !== buffer.length % 2 ** 32) {
    throw new DecompressError('gzip data is damaged: checksum or length differs');
  }
  return { data: buffer, consumedBytes: trailer + TRAILER_BYTES };
}

function endOfHeader(bytes: Uint8Array): number {
  const flags = bytes[3] ?? 0;
  let at = HEADER_BYTES;
  if ((flags & FEXTRA) !== 0) at += 2 + (bytes[at] ?? 0) + (bytes[at + 1] ?? 0) * 0x100;
  for (const flag of [FNAME, FCOMMENT]) {
    if ((flags & flag) === 0) continue;
    const end = bytes.indexOf(0, at);
    at = end < 0 ? bytes.length : end + 1;
  }
  if ((flags & FHCRC) !== 0) at += 2;
  if (at >= bytes.length) throw new DecompressError('gzip data is truncated');
  return at;
}
