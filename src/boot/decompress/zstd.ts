/**
 * Zstandard (RFC 8878): by Node's zlib where it has it (22.15 and later), else by zstddec, the reference decoder as
 * WebAssembly: no native build, maintained, and ten times as fast as fzstd on a kernel packed with `--ultra -22`.
 *
 * Frames are walked first, block by block, which needs no unpacking: it tells where the data end and the most they can
 * unpack to.
 *
 * @spec rfc-8878 3.1  Frames  #yes
 */
import zlib from 'node:zlib';
import { DecompressError, type Unpacked } from './error.js';

export const ZSTD_MAGIC = 0xfd2f_b528;
const MAX_BLOCK_BYTES = 128 * 1024;
const RAW = 0;
const RLE = 1;
const COMPRESSED = 2;
/** The kernel's own limit is 128 MiB (2^27); this is the format's for 64-bit programs. */
const WINDOW_LOG_MAX = 31;

export async function unzstd(bytes: Uint8Array, maxBytes: number): Promise<Unpacked> {
  const { consumedBytes, mostBytes, contentBytes } = walkFrames(bytes, maxBytes);
  const frames = bytes.subarray(0, consumedBytes);
  const node = zlib as unknown as ZstdOfNode;
  const native = node.zstdDecompressSync;
  if (native !== undefined) {
    const parameter = node.constants.ZSTD_d_windowLogMax ?? 100;
    const data = native(frames, {
      maxOutputLength: Math.max(1, maxBytes),
      params: { [parameter]: WINDOW_LOG_MAX },
    });
    return { data, consumedBytes };
  }
  const { ZSTDDecoder } = await import('zstddec');
  const decoder = new ZSTDDecoder();
  await decoder.init();
  // A kernel packed with `--ultra -22` says no size, and has many blocks of far less than they may hold.
  const capacity = contentBytes ?? Math.min(mostBytes, maxBytes);
  const data = decoder.decode(frames, capacity);
  // zstddec returns whatever lies behind an error code taken for a length: nothing, in practice.
  const failed =
    data.length > capacity ||
    (contentBytes !== undefined && data.length !== contentBytes) ||
    (data.length === 0 && mostBytes > 0);
  if (failed) {
    throw new DecompressError(
      contentBytes === undefined && mostBytes > maxBytes
        ? `zstd data is damaged, or unpacks to more than ${maxBytes} bytes`
        : 'zstd data is damaged',
    );
  }
  return { data, consumedBytes };
}

/** What @types/node 20 does not know yet. */
interface ZstdOfNode {
  readonly constants: { readonly ZSTD_d_windowLogMax?: number };
  readonly zstdDecompressSync?: (
    bytes: Uint8Array,
    options: { maxOutputLength: number; params: Record<number, number> },
  ) => Uint8Array;
}

/** Where neighbouring frames end, and what they unpack to: exactly if they say so, and at most. */
function walkFrames(bytes: Uint8Array, maxBytes: number) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let mostBytes = 0;
  let contentBytes: number | undefined = 0;
  while (at + 4 <= bytes.length && view.getUint32(at, true) === ZSTD_MAGIC) {
    const frame = walkFrame(view, at);
    at = frame.end;
    mostBytes += frame.mostBytes;
    if (contentBytes !== undefined && frame.contentBytes !== undefined) contentBytes += frame.contentBytes;
    else contentBytes = undefined;
    if ((contentBytes ?? 0) > maxBytes) throw new DecompressError(`unpacks to more than ${maxBytes} bytes`);
  }
  return { consumedBytes: at, mostBytes, contentBytes };
}

/** One frame: header (3.1.1.1), blocks (3.1.1.2), optional checksum. */
function walkFrame(
  view: DataView,
  start: number,
): { end: number; mostBytes: number; contentBytes: number | undefined } {
  const need = (end: number): void => {
    if (end > view.byteLength) throw new DecompressError('zstd data is truncated');
  };
  need(start + 6);
  const descriptor = view.getUint8(start + 4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeFlag = descriptor >>> 6;
  const sizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeFlag;
  const sizeAt = start + 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes;
  let at = sizeAt + sizeBytes;
  need(at);
  let contentBytes: number | undefined;
  if (sizeBytes === 1) contentBytes = view.getUint8(sizeAt);
  else if (sizeBytes === 2) contentBytes = view.getUint16(sizeAt, true) + 256;
  else if (sizeBytes === 4) contentBytes = view.getUint32(sizeAt, true);
  else if (sizeBytes === 8) contentBytes = Number(view.getBigUint64(sizeAt, true));

  let mostBytes = 0;
  for (let isLast = false; !isLast; ) {
    need(at + 3);
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    isLast = (header & 1) !== 0;
    const type = (header >>> 1) & 3;
    const size = header >>> 3;
    if (type > COMPRESSED || size > MAX_BLOCK_BYTES) throw new DecompressError('zstd data is damaged');
    at += 3 + (type === RLE ? 1 : size);
    mostBytes += type === RAW || type === RLE ? size : MAX_BLOCK_BYTES;
    need(at);
  }
  if (hasChecksum) at += 4;
  need(at);
  return { end: at, mostBytes, contentBytes };
}
