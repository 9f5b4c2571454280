/**
 * A file of the host that is to be in guests' memory, read-only: mapped, so that the host's page cache is the memory.
 *
 * A file cannot be sealed against being truncated, and a lock keeps nobody out who does not ask for it. So the loss is
 * noticed: see {@link PmemFile.isTruncated}.
 */
import { constants, fstatSync, type Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { TsvmError } from '../../errors.js';
import type { NativeAddon } from '../../native/binding.js';
import { warnOperator } from '../../util/operator-warning.js';
import { type DiskFacts, diskFacts } from './facts.js';
import { openImage } from './image-file.js';

/**
 * Opens a file and locks it as read-only disks are: others may read it, and no machine writes to it.
 *
 * @param path absolute
 * @throws TsvmError `TSVM_PMEM`, naming the path.
 */
export async function openPmemFile(addon: NativeAddon, path: string): Promise<PmemFile> {
  const handle = await openPmem(path, warnOperator);
  try {
    const sizeBytes = (await handle.stat()).size;
    if (!addon.flock(handle.fd, 'shared')) {
      throw new TsvmError('TSVM_PMEM', `pmem ${path} is in use by a machine that writes to it`, {
        hint: 'that machine would have to open it read-only: `blk({ path, readOnly: true })`',
      });
    }
    return new PmemFile(path, sizeBytes, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Looks whether a file could be opened. @throws TsvmError `TSVM_PMEM` as {@link openPmemFile}. */
export async function lookAtPmemFile(path: string): Promise<void> {
  await (await openPmem(path)).close();
}

function openPmem(path: string, warn?: (text: string) => void): Promise<FileHandle> {
  return openImage(
    path,
    {
      what: 'pmem',
      code: 'TSVM_PMEM',
      flags: constants.O_RDONLY,
      hint: 'check the path and its permissions',
      check: (stats) => checkKind(stats, path),
    },
    warn,
  );
}

function checkKind(stats: Stats, path: string): void {
  if (stats.isFile() && stats.size === 0) {
    throw new TsvmError('TSVM_PMEM', `pmem ${path} is empty`, {
      hint: 'give an image of a file system: ext4 or erofs',
    });
  }
  if (stats.isFile()) return;
  throw new TsvmError('TSVM_PMEM', `pmem ${path} is not a regular file`, {
    hint: 'give an image; a block device can be a disk: `blk({ path, readOnly: true })`',
  });
}

export class PmemFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  #users = 1;

  constructor(path: string, sizeBytes: number, handle: FileHandle) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#handle = handle;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  /** Tells whether the guest has lost memory. */
  get isTruncated(): boolean {
    return fstatSync(this.fd).size < this.sizeBytes;
  }

  async facts(): Promise<DiskFacts> {
    const { path, sizeBytes } = this;
    return diskFacts({ path, readOnly: true, sizeBytes }, await this.#handle.stat({ bigint: true }));
  }

  /** Gives it to one machine more, which closes it, too. */
  share(): this {
    this.#users++;
    return this;
  }

  async close(): Promise<void> {
    if (--this.#users === 0) await this.#handle.close();
  }
}
