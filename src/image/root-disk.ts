/**
 * Root disks: a file with an empty ext4 that takes what a machine writes to its root, in the place of its memory. Files are sparse, and lie
 * in a folder of this user's; that of a machine without a name is thrown away.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { TsvmError } from '../errors.js';
import { cacheDirectory } from '../host/cache-directory.js';
import { describeFileError } from '../host/files.js';
import { removeEntry, unfinishedName } from '../host/folder-store.js';
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import { formatBytes } from '../util/units.js';
import { outputOf } from './program.js';

/** Rules of the folder of root disks: programs on one may be setuid, so that nobody else may come to them. */
const RULES: FolderRules = {
  code: 'TSVM_DISK',
  what: 'the folder of root disks',
  hint: 'set TSVM_DISK_DIR to a folder of your own',
  secret: true,
};

export const MKE2FS = { name: 'mke2fs', debianPackage: 'e2fsprogs' } as const;

/** Features that every Linux since 4.0 mounts, whatever this host's mke2fs would choose. */
const FEATURES = [
  ...['none', 'has_journal', 'ext_attr', 'dir_index', 'filetype', 'extent', 'flex_bg', 'sparse_super'],
  ...['large_file', 'huge_file', 'dir_nlink', 'extra_isize', 'uninit_bg'],
].join(',');
/** Options that leave inode tables and journal as the holes that they are. */
const AS_HOLES = 'lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0';

/**
 * Time of change of every root disk as its machine is made: a saved machine goes on only over disks that have not changed, and the template
 * has not looked at what is on its own.
 */
const EPOCH = new Date(0);

export interface RootDisk {
  /** Path of this machine's own. */
  readonly path: string;
  /** Path of an empty file of the same size, which is the template's. */
  readonly blank: string;
  readonly isKept: boolean;
  /** Removes it unless it is kept: a machine that has it open keeps it as long as it lives. */
  release(): void;
}

export interface RootDiskOptions {
  readonly bytes: number;
  /** Name of the machine that it is kept for, and taken up again by; undefined: it is thrown away. */
  readonly name: string | undefined;
  /** Identity of the root that it lies over: with another, what is on it would make no sense. */
  readonly root: string;
}

/** Folder of root disks: $TSVM_DISK_DIR, or tsvm/disks in $XDG_CACHE_HOME or ~/.cache. */
const diskDirectory = (): string => cacheDirectory('TSVM_DISK_DIR', 'disks');

/**
 * Makes a root disk, or takes up the one that was kept for the machine of that name.
 *
 * @throws TsvmError `TSVM_DISK` if the kept one is of another size or root, or the folder cannot be written to; `TSVM_HOST` if mke2fs is missing.
 */
export async function openRootDisk({ bytes, name, root }: RootDiskOptions): Promise<RootDisk> {
  const directory = diskDirectory();
  try {
    using folder = OwnFolder.make(directory, RULES);
    const blank = `blank-${bytes}`;
    if (folder.stats(blank) === undefined) await make(folder, blank, bytes, async () => {});
    if (name !== undefined) {
      const kept = keptName(name, root);
      refuseOther(folder, name, kept, bytes);
      if (folder.stats(kept) === undefined) await make(folder, kept, bytes, format);
      else await asNew(folder, kept);
      return { path: join(directory, kept), blank: join(directory, blank), isKept: true, release: () => {} };
    }
    // A name of work in progress: what a killed process leaves is swept.
    const own = unfinishedName(folder);
    await create(folder, own, bytes, format);
    return {
      path: join(directory, own),
      blank: join(directory, blank),
      isKept: false,
      release() {
        using again = OwnFolder.open(directory, RULES);
        again?.remove(own);
      },
    };
  } catch (cause) {
    if (cause instanceof TsvmError) throw cause;
    throw new TsvmError('TSVM_DISK', `cannot make a root disk in ${directory}: ${describeFileError(cause)}`, {
      hint: 'set TSVM_DISK_DIR to a folder that can be written to',
      cause,
    });
  }
}

export interface KeptRootDisk {
  readonly path: string;
  /** Name of the machine that it is kept for. */
  readonly machine: string;
}

/** Lists the root disks that are kept for machines with a name. @throws TsvmError `TSVM_DISK` */
export function keptRootDisks(): KeptRootDisk[] {
  const directory = diskDirectory();
  using folder = OwnFolder.open(directory, RULES);
  return (folder?.names() ?? []).flatMap((entry) => {
    const machine = /^([^.@][^@]*)@[0-9a-f]{16}$/.exec(entry)?.[1];
    return machine === undefined ? [] : [{ path: join(directory, entry), machine }];
  });
}

/** Removes the root disk that is kept for the machine of that name; false if there is none. @throws TsvmError `TSVM_DISK` */
export function removeRootDisk(name: string): boolean {
  using folder = OwnFolder.open(diskDirectory(), RULES);
  const kept = folder === undefined ? [] : keptOf(folder, name);
  for (const entry of kept) if (folder !== undefined) removeEntry(folder, entry);
  return kept.length > 0;
}

/** Keeps the root disk of the machine `name` for the machine `to`, if there is one. @throws TsvmError `TSVM_DISK` */
export function renameRootDisk(name: string, to: string): void {
  using folder = OwnFolder.open(diskDirectory(), RULES);
  for (const entry of folder === undefined ? [] : keptOf(folder, name))
    folder?.renameNew(entry, `${to}${entry.slice(name.length)}`);
}

/** Names of machines have no @. */
const keptName = (name: string, root: string): string =>
  `${name}@${createHash('sha256').update(root).digest('hex').slice(0, 16)}`;

const keptOf = (folder: OwnFolder, name: string): string[] =>
  folder.names().filter((entry) => entry.startsWith(`${name}@`));

function refuseOther(folder: OwnFolder, name: string, wanted: string, bytes: number): void {
  const [kept] = keptOf(folder, name);
  if (kept === undefined) return;
  const size = folder.stats(kept)?.size ?? bytes;
  const why =
    kept !== wanted ? 'lies over another root' : size === bytes ? undefined : `has ${formatBytes(size)}`;
  if (why === undefined) return;
  throw new TsvmError('TSVM_DISK', `the root disk that is kept for ${name} ${why}`, {
    hint: `take it as it is, or forget the machine and its disk: tsvm rm ${name}`,
  });
}

type Fill = (path: string) => Promise<void>;

/** Makes a disk whole, or not at all. Of two that make the same, the second takes the first's: a machine may have that open. */
async function make(folder: OwnFolder, name: string, bytes: number, fill: Fill): Promise<void> {
  const unfinished = unfinishedName(folder);
  await create(folder, unfinished, bytes, fill);
  if (!folder.renameNew(unfinished, name)) folder.remove(unfinished);
}

async function create(folder: OwnFolder, name: string, bytes: number, fill: Fill): Promise<void> {
  try {
    await using file = await folder.createFile(name);
    await file.truncate(bytes);
    await fill(join(folder.path, name));
    await file.utimes(EPOCH, EPOCH);
  } catch (error) {
    folder.remove(name);
    throw error;
  }
}

async function format(path: string): Promise<void> {
  const args = ['-q', '-F', '-t', 'ext4', '-m', '0', '-O', FEATURES, '-E', AS_HOLES, path];
  await outputOf(MKE2FS, args, (complaint) => new TsvmError('TSVM_HOST', `mke2fs: ${complaint}`));
}

async function asNew(folder: OwnFolder, name: string): Promise<void> {
  await using file = await folder.openLock(name);
  await file.utimes(EPOCH, EPOCH);
}
