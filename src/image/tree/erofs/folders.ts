/** Directories of a tree on their way into a file system: the entries of one can be written when it is known where all inodes lie. */
import type { DirectoryNode, TreeNode } from '../tree.js';
import type { BlockFile } from './block-file.js';
import { type DirectoryEntry, ENTRY_TYPES, formatDirectoryBlock, planDirectory } from './directory.js';
import { hasRoom, type InodeData, recordBytes } from './inode.js';
import type { BlockSpace } from './space.js';
import { BLOCK_BYTES } from './superblock.js';
import { formatXattrs } from './xattrs.js';

export interface Folder {
  readonly node: DirectoryNode;
  readonly parent: DirectoryNode;
  readonly xattrs: Uint8Array;
  /** Names in it, with `.` and `..`, in the order of their bytes. */
  readonly names: readonly string[];
  /** Index of the first name behind each block. */
  readonly ends: readonly number[];
  /** Length of the last block, and whether that is in the record. */
  readonly lastBytes: number;
  readonly isInline: boolean;
  readonly recordBytes: number;
}

/** Folders of a tree, each before those in it. */
export function* foldersOf(root: DirectoryNode): Generator<Folder> {
  const waiting = [{ node: root, parent: root }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { node, parent } = next;
    yield planFolder(node, parent);
    const inner = [...node.children.values()].filter((child) => child.kind === 'directory');
    for (const child of inner.reverse()) waiting.push({ node: child, parent: node });
  }
}

function planFolder(node: DirectoryNode, parent: DirectoryNode): Folder {
  const xattrs = formatXattrs(node.xattrs);
  // A character is a byte.
  const names = ['.', '..', ...node.children.keys()].sort();
  const { ends, lastBytes } = planDirectory(names);
  const isInline = hasRoom(xattrs, lastBytes);
  const bytes = recordBytes(xattrs, isInline ? lastBytes : 0);
  return { node, parent, xattrs, names, ends, lastBytes, isInline, recordBytes: bytes };
}

/** Writes a folder's entries, but for those that its record has. */
export async function writeFolder(
  { node, parent, names, ends, lastBytes, isInline }: Folder,
  numberOf: (node: TreeNode) => number,
  file: BlockFile,
  space: BlockSpace,
): Promise<InodeData> {
  const entryOf = (name: string): DirectoryEntry => {
    const child = name === '.' ? node : name === '..' ? parent : node.children.get(name);
    if (child === undefined) throw new Error('a name that is gone');
    return { name, number: numberOf(child), type: ENTRY_TYPES[child.kind] };
  };
  const inBlocks = ends.length - (isInline ? 1 : 0);
  const start = space.take(inBlocks);
  let tail: Uint8Array = Buffer.alloc(0);
  for (const [i, end] of ends.entries()) {
    const block = formatDirectoryBlock(names.slice(ends[i - 1] ?? 0, end).map(entryOf));
    if (i < inBlocks) await file.write((start + i) * BLOCK_BYTES, block);
    else tail = block.subarray(0, lastBytes);
  }
  const sizeBytes = (ends.length - 1) * BLOCK_BYTES + lastBytes;
  return isInline ? { kind: 'inline', sizeBytes, start, tail } : { kind: 'blocks', sizeBytes, start };
}
