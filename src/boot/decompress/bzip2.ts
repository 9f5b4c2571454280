/**
 * bzip2 by seek-bzip: plain JavaScript, used by most of npm's archive tools, verifies checksums, and takes its input
 * and output byte by byte, so that a bomb is stopped when it passes the limit.
 */
import { DecompressError, type Unpacked } from './error.js';
import { OutputBuffer } from './output.js';

export async function bunzip2(
  bytes: Uint8Array,
  maxBytes: number,
  expectedBytes?: number,
): Promise<Unpacked> {
  const { default: bzip } = await import('seek-bzip');
  const out = new OutputBuffer(maxBytes, expectedBytes);
  let at = 0;
  const readByte = (): number => {
    const byte = bytes[at++];
    if (byte === undefined) throw new DecompressError('bzip2 data is truncated');
    return byte;
  };
  bzip.decode(
    {
      readByte,
      read: (buffer, offset, length) => {
        for (let i = 0; i < length; i++) buffer[offset + i] = readByte();
        return length;
      },
    },
    {
      writeByte: (byte) => {
        if (out.length === out.bytes.length) out.reserve(1);
        out.bytes[out.length++] = byte;
      },
    },
  );
  return { data: out.result(), consumedBytes: at };
}
