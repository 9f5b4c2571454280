/** What disks are stacked from. */
import type { BlockBackend } from '../devices/host.js';

/** A disk to be read. */
export interface DiskBase extends Pick<BlockBackend, 'sizeBytes' | 'readv' | 'close'> {
  /** Whether there are, or were, contents that are not the file's: then the file cannot stand for the disk. */
  readonly differsFromFile: boolean;
}

/** A disk that can do everything. */
export type Layer = Required<BlockBackend> & DiskBase;
