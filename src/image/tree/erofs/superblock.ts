/**
 * Superblock of an EROFS file system, in the form that every kernel since 5.15 reads (Linux, fs/erofs/erofs_fs.h).
 *
 * @spec linux-erofs erofs_super_block  Superblock      #yes
 * @spec linux-erofs erofs_super_block  Checksum of it  #no   the file is as safe as the store that it lies in
 */

export const BLOCK_BYTES = 4096;
const BLOCK_BITS = 12;
/** Unit of an inode’s number: inodes lie at multiples of it. */
export const INODE_UNIT = 32;

const SUPERBLOCK_OFFSET = 1024;
const MAGIC = 0xe0f5_e1e2;
const COMPAT_MTIME = 0x2;
const INCOMPAT_CHUNKED_FILE = 0x4;
const UUID_BYTES = 16;
// struct erofs_super_block
const SUPER = {
  magic: 0,
  featureCompat: 8,
  blockBits: 12,
  root: 14,
  inodes: 16,
  blocks: 36,
  uuid: 48,
  featureIncompat: 80,
} as const;

export interface Superblock {
  /** Number of the root’s inode, of 16 bits. */
  readonly root: number;
  readonly inodes: number;
  readonly blocks: number;
  readonly uuid: Uint8Array;
}

/** First block of a file system. Metadata begin at block 0, so that an inode’s number is its offset in the file, in units of {@link INODE_UNIT}. */
export function formatSuperblock({ root, inodes, blocks, uuid }: Superblock): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const at = (field: keyof typeof SUPER): number => SUPERBLOCK_OFFSET + SUPER[field];
  block.writeUInt32LE(MAGIC, at('magic'));
  block.writeUInt32LE(COMPAT_MTIME, at('featureCompat'));
  block.writeUInt8(BLOCK_BITS, at('blockBits'));
  block.writeUInt16LE(root, at('root'));
  block.writeUIntLE(inodes, at('inodes'), 6);
  block.writeUInt32LE(blocks, at('blocks'));
  block.set(uuid.subarray(0, UUID_BYTES), at('uuid'));
  block.writeUInt32LE(INCOMPAT_CHUNKED_FILE, at('featureIncompat'));
  return block;
}
