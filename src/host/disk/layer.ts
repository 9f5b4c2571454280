/** Layers that disks are stacked from. */
import type { BlockBackend } from '../../devices/backends/disk.js';

/** Bytes that can be read and written like a file's. */
export interface Bytes extends Pick<BlockBackend, 'readv' | 'writev' | 'close'> {}

/** A disk to be read. */
export interface DiskBase extends Pick<BlockBackend, 'sizeBytes' | 'readv' | 'close'> {
  /** Tells whether there are, or were, contents that are not the file's: then the file cannot stand for the disk. */
  readonly differsFromFile: boolean;
}

/** A disk that can do everything; but not each can have another size. */
export type Layer = Required<Omit<BlockBackend, 'resize'>> & Pick<BlockBackend, 'resize'> & DiskBase;
