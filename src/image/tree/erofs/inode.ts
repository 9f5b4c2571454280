/**
 * Inodes of EROFS (Linux, fs/erofs/erofs_fs.h), each with what follows it: attributes, and data or a table of chunks.
 *
 * @spec linux-erofs erofs_inode_extended  Inodes of 64 bytes  #yes
 * @spec linux-erofs erofs_inode_compact   Inodes of 32 bytes  #no   they have no time of their own
 * @spec linux-erofs i_format  Data in blocks, in chunks, behind the inode  #yes
 * @spec linux-erofs i_format  Compressed data  #no   memory that machines share is not compressed
 */
import { S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from '../../../util/file-mode.js';
import type { TreeNode } from '../tree.js';
import { BLOCK_BYTES } from './superblock.js';
import { XATTR_HEADER_BYTES } from './xattrs.js';

const INODE_BYTES = 64;
/** Address of a chunk in a table. */
const ADDRESS_BYTES = 4;
const EXTENDED = 1;
const LAYOUT_SHIFT = 1;
const LAYOUT = { blocks: 0, inline: 2, chunks: 4 } as const;
const TYPES = { file: S_IFREG, directory: S_IFDIR, link: S_IFLNK, fifo: S_IFIFO } as const;
// struct erofs_inode_extended
const FORMAT = 0;
const XATTR_WORDS = 2;
const MODE = 4;
const SIZE = 8;
const PLACE = 16;
const UID = 24;
const GID = 28;
const MTIME_SECONDS = 32;
const MTIME_NS = 40;
const LINKS = 44;

/** Data of an inode, or where they lie. */
export type InodeData = { readonly sizeBytes: number } & (
  | { readonly kind: 'blocks'; readonly start: number }
  /** Blocks, of which the last, or what there is of it, is behind the inode. */
  | { readonly kind: 'inline'; readonly start: number; readonly tail: Uint8Array }
  /** Addresses of chunks, each of two to the power of `bits` blocks. */
  | { readonly kind: 'chunks'; readonly bits: number; readonly table: Uint32Array }
);

/** Tells whether data can lie behind an inode and its attributes: in the same block. */
export function hasRoom(xattrs: Uint8Array, bytes: number): boolean {
  return recordBytes(xattrs, bytes) <= BLOCK_BYTES;
}

/** Length of an inode with attributes, and data behind them. */
export function recordBytes(xattrs: Uint8Array, bytes: number): number {
  return INODE_BYTES + xattrs.length + bytes;
}

/**
 * Bytes of an inode and of what follows it.
 *
 * @param links - how many names it has
 */
export function formatInode(node: TreeNode, xattrs: Uint8Array, data: InodeData, links: number): Buffer {
  const tail = tailOf(data);
  const bytes = Buffer.alloc(recordBytes(xattrs, tail.length));
  bytes.writeUInt16LE(EXTENDED | (LAYOUT[data.kind] << LAYOUT_SHIFT), FORMAT);
  // The header of attributes counts as one.
  if (xattrs.length > 0)
    bytes.writeUInt16LE((xattrs.length - XATTR_HEADER_BYTES) / ADDRESS_BYTES + 1, XATTR_WORDS);
  bytes.writeUInt16LE(TYPES[node.kind] | node.mode, MODE);
  bytes.writeBigUInt64LE(BigInt(data.sizeBytes), SIZE);
  bytes.writeUInt32LE(data.kind === 'chunks' ? data.bits : data.start, PLACE);
  bytes.writeUInt32LE(node.uid, UID);
  bytes.writeUInt32LE(node.gid, GID);
  bytes.writeBigInt64LE(BigInt(node.mtimeSeconds), MTIME_SECONDS);
  bytes.writeUInt32LE(node.mtimeNs, MTIME_NS);
  bytes.set(formatLinks(links), LINKS);
  bytes.set(xattrs, INODE_BYTES);
  bytes.set(tail, INODE_BYTES + xattrs.length);
  return bytes;
}

/** Offset of {@link formatLinks} in an inode. */
export const LINKS_OFFSET = LINKS;

/** Number of an inode's names, as it has it. */
export function formatLinks(links: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(links);
  return bytes;
}

function tailOf(data: InodeData): Uint8Array {
  if (data.kind === 'inline') return data.tail;
  if (data.kind === 'blocks') return Buffer.alloc(0);
  const bytes = Buffer.alloc(data.table.length * ADDRESS_BYTES);
  for (const [i, address] of data.table.entries()) bytes.writeUInt32LE(address, i * ADDRESS_BYTES);
  return bytes;
}
