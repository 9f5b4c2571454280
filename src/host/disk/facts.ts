/** Identity of a disk image. A saved machine goes on only over the disks that it was saved with, or copies of them as they were. */
import type { BigIntStats } from 'node:fs';
import { TsvmError } from '../../errors.js';
import { checkState } from '../../util/state.js';

/** Plain data, JSON-serialisable. */
export interface DiskFacts {
  /** Absolute. */
  readonly path: string;
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  /** The file's last change: nanoseconds since 1970, in decimal. A block device's says nothing of its contents. */
  readonly mtimeNs: string;
  readonly inode: string;
}

export function diskFacts(
  file: Pick<DiskFacts, 'path' | 'readOnly' | 'sizeBytes'>,
  { mtimeNs, ino }: BigIntStats,
): DiskFacts {
  const { path, readOnly, sizeBytes } = file;
  return { path, readOnly, sizeBytes, mtimeNs: String(mtimeNs), inode: String(ino) };
}

/**
 * Compares disks with what they were. One at another path is a copy, or was moved: it has its size and its time of change, and need not be
 * the same file.
 *
 * @throws TsvmError `TSVM_DISK` for the first disk that is not what it was.
 */
export function checkDiskFacts(saved: readonly DiskFacts[], now: readonly DiskFacts[]): void {
  checkState(Array.isArray(saved) && saved.length === now.length, 'the number of disks');
  for (const [index, disk] of now.entries()) {
    const before: Partial<DiskFacts> | null | undefined = saved[index];
    const same =
      before?.readOnly === disk.readOnly &&
      before.sizeBytes === disk.sizeBytes &&
      before.mtimeNs === disk.mtimeNs &&
      (before.inode === disk.inode || before.path !== disk.path);
    if (!same) {
      throw new TsvmError('TSVM_DISK', `disk ${disk.path} has changed since the snapshot was taken`, {
        hint: 'put the image back as it was, its time of change included (cp -p), or take the snapshot again',
      });
    }
  }
}
