/**
 * Data of a directory: blocks, each with entries and then their names, sorted by bytes over all of them.
 *
 * @spec linux-erofs erofs_dirent  Directories  #yes
 */
import { BLOCK_BYTES } from './superblock.js';

// struct erofs_dirent
const ENTRY_BYTES = 12;
/** Bytes of a number that can differ from 0, of eight. */
const NUMBER_BYTES = 6;
const NAME_OFFSET = 8;
const TYPE = 10;

/** Types of files in a directory's entries (<linux/fs_types.h>, FT_REG_FILE and so on). */
export const ENTRY_TYPES = { file: 1, directory: 2, fifo: 5, link: 7 } as const;

export interface DirectoryEntry {
  /** Bytes, as latin1 text. */
  readonly name: string;
  /** Number of the inode. */
  readonly number: number;
  readonly type: number;
}

/** Ends of blocks in a sorted list of names, and the length of what is in the last one. */
export interface DirectoryPlan {
  readonly ends: readonly number[];
  readonly lastBytes: number;
}

/** Plans the blocks for sorted names. */
export function planDirectory(names: readonly string[]): DirectoryPlan {
  const ends: number[] = [];
  let used = 0;
  for (const [i, name] of names.entries()) {
    const bytes = ENTRY_BYTES + name.length;
    if (used + bytes > BLOCK_BYTES) {
      ends.push(i);
      used = 0;
    }
    used += bytes;
  }
  ends.push(names.length);
  return { ends, lastBytes: used };
}

/** Formats a block of entries. */
export function formatDirectoryBlock(entries: readonly DirectoryEntry[]): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  let nameAt = entries.length * ENTRY_BYTES;
  for (const [i, { name, number, type }] of entries.entries()) {
    const at = i * ENTRY_BYTES;
    block.writeUIntLE(number, at, NUMBER_BYTES);
    block.writeUInt16LE(nameAt, at + NAME_OFFSET);
    block.writeUInt8(type, at + TYPE);
    nameAt += block.write(name, nameAt, 'latin1');
  }
  return block;
}
