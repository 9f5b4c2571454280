/** A directory as a file with ext4 on it. */
import { writeFileSync } from 'node:fs';
import { TsvmError } from '../errors.js';
import { KIB, MIB } from '../util/units.js';
import { outputOf } from './program.js';

/** ext4 keeps each file in blocks of its own, and an inode for each. */
const EXT4_BLOCK_BYTES = 4096;
const EXT4_INODE_BYTES = 256;
/** Inodes that it has for itself. */
const EXT4_SPARE_INODES = 64;
/** Its own structures: they grow with it, from some least size. */
const EXT4_SPARE_BYTES = 8 * MIB;
const EXT4_SPARE_RATIO = 1.05;

/** Writes the file. @throws TsvmError `TSVM_HOST` if mke2fs is not installed or fails. */
export async function makeExt4(root: string, path: string): Promise<void> {
  const complain = (complaint: string): Error =>
    new TsvmError('TSVM_HOST', `cannot make a file system of ${root}: ${complaint}`);
  // Each file's size: what du tells of a file system is how that one stores it.
  const sizes = (await outputOf(FIND, [root, '-xdev', '-printf', '%s\n'], complain))
    .trim()
    .split('\n')
    .map(Number);
  const inodes = Math.ceil(sizes.length * EXT4_SPARE_RATIO) + EXT4_SPARE_INODES;
  const blocks = sizes.reduce((sum, size) => sum + Math.max(1, Math.ceil(size / EXT4_BLOCK_BYTES)), 0);
  const usedBytes = blocks * EXT4_BLOCK_BYTES + inodes * EXT4_INODE_BYTES;
  const sizeKib = Math.ceil((usedBytes * EXT4_SPARE_RATIO + EXT4_SPARE_BYTES) / KIB);
  writeFileSync(path, '');
  // No journal, nothing is ever written; blocks of a page, so that they can be mapped. Owners are the files'.
  const options = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-b',
    String(EXT4_BLOCK_BYTES),
    '-N',
    String(inodes),
    '-m',
    '0',
    '-O',
    '^has_journal',
    '-d',
    root,
  ];
  await outputOf(MKE2FS, [...options, path, `${sizeKib}k`], complain);
  // It is for fsck, which nobody runs; the image has none.
  await outputOf(DEBUGFS, ['-w', '-R', 'rmdir lost+found', path], complain);
}

export const FIND = { name: 'find', debianPackage: 'findutils' } as const;
export const MKE2FS = { name: 'mke2fs', debianPackage: 'e2fsprogs' } as const;
export const DEBUGFS = { name: 'debugfs', debianPackage: 'e2fsprogs' } as const;
