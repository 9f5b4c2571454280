/** Data of files in blocks of their own: in a row, or, where there are holes, in chunks that a table finds. */
import { alignUp } from '../../../util/units.js';
import type { Extent } from '../../tar/sparse.js';
import type { BlockFile } from './block-file.js';
import type { InodeData } from './inode.js';
import type { BlockRange, BlockSpace } from './space.js';
import { BLOCK_BYTES } from './superblock.js';

/** Bound of a table: chunks are as small as it allows. */
const MAX_CHUNKS = 65_536;
/** Address of a chunk that is a hole. */
const HOLE = 0xffff_ffff;

export interface Contents {
  readonly range: BlockRange;
  readonly data: InodeData;
}

/** Writes a file's data. What is in no extent is zeros: in a chunk that has data they are written, others are left out. */
export async function writeContents(
  file: BlockFile,
  space: BlockSpace,
  sizeBytes: number,
  extents: AsyncIterable<Extent>,
): Promise<Contents> {
  const bits = chunkBits(sizeBytes);
  const chunkBytes = BLOCK_BYTES * 2 ** bits;
  const table = new Uint32Array(Math.ceil(sizeBytes / chunkBytes)).fill(HOLE);
  const blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  const start = space.take(blocks);
  /** Places in the file system, and in the file, of what comes next. */
  let at = start * BLOCK_BYTES;
  let next = 0;
  const put = async (length: number, work: () => Promise<void>): Promise<void> => {
    const first = Math.floor(next / chunkBytes);
    for (let chunk = first; chunk * chunkBytes < next + length; chunk++) {
      table[chunk] = (at + chunk * chunkBytes - next) / BLOCK_BYTES;
    }
    await work();
    at += length;
    next += length;
  };
  const zerosTo = async (end: number): Promise<void> =>
    await put(end - next, () => file.writeZeros(at, end - next));
  /** Ends the chunk that has been begun: with the file's last block at the latest. */
  const endChunk = async (): Promise<void> =>
    await zerosTo(Math.min(alignUp(next, chunkBytes), alignUp(sizeBytes, BLOCK_BYTES)));
  for await (const { offset, bytes } of extents) {
    const chunk = offset - (offset % chunkBytes);
    if (chunk > next) {
      await endChunk();
      next = chunk;
    }
    await zerosTo(offset);
    await put(bytes.length, () => file.write(at, bytes));
  }
  await endChunk();
  const used = at / BLOCK_BYTES - start;
  space.give({ start: start + used, blocks: blocks - used });
  const data: InodeData =
    used === blocks ? { kind: 'blocks', sizeBytes, start } : { kind: 'chunks', sizeBytes, bits, table };
  return { range: { start, blocks: used }, data };
}

function chunkBits(sizeBytes: number): number {
  return Math.max(0, Math.ceil(Math.log2(sizeBytes / BLOCK_BYTES / MAX_CHUNKS)));
}
