/** Bounds of an image, over all of its layers: what it may cost in memory, and on the disk. */
import { MAX_IMAGE_BYTES } from '../image.js';
import { imageError } from '../image-error.js';
import { shownName } from './name.js';

/** Bounds of what is left to come, counted down. */
export interface Limits {
  /** Entries, and folders that none of them is and names take for granted. */
  entries: number;
  /** Sizes of files, holes included. */
  bytes: number;
  /** Memory besides: contents of headers before entries, which are long names and attributes, and paths of what is left out. */
  headerBytes: number;
}

/**
 * Default bounds of an image: more files than any distribution has, and not more than a tree in memory may have, at some 400 bytes each; fewer
 * bytes than fill most disks.
 */
export const LIMITS: Readonly<Limits> = {
  entries: 2_000_000,
  bytes: MAX_IMAGE_BYTES,
  headerBytes: 512 << 20,
};

/** Counts an entry, or a folder that none is. @throws TsvmError `TSVM_IMAGE` if there are too many. */
export function countEntry(name: string, bytes: number, limits: Limits): void {
  limits.entries--;
  limits.bytes -= bytes;
  if (limits.entries < 0) throw beyond(shownName(name), 'files');
  if (limits.bytes < 0) throw beyond(shownName(name), 'bytes');
}

/** Counts what is kept besides the tree. @throws TsvmError `TSVM_IMAGE` if that is too much. */
export function countHeader(bytes: number, limits: Limits): void {
  limits.headerBytes -= bytes;
  if (limits.headerBytes < 0) throw beyond('"a header"', 'long names and attributes');
}

function beyond(where: string, what: string): Error {
  return imageError(
    `${where}: the image has more ${what} than are unpacked`,
    'unpack it by hand, and give the directory',
  );
}
