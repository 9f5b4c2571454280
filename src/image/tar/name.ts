/** Names in archives: what of them may be unpacked, and how messages show them. A character is a byte. */
import { imageError } from '../image-error.js';

/**
 * Longest name of an entry: with the store's folder before it, it is still shorter than Linux's PATH_MAX (4096), so that every program can name
 * what was unpacked.
 */
const MAX_NAME_BYTES = 3 * 1024;
/** Bound of the depth at which an entry lies, since each entry costs system calls for every folder above it. Images have some thirty, at the most. */
const MAX_DEPTH = 256;
/** <linux/limits.h> NAME_MAX: no file system of Linux has longer ones. */
const MAX_PART_BYTES = 255;
/** Characters of a name that is too long that a message has. */
const SHOWN_CHARACTERS = 40;

/** @throws TsvmError `TSVM_IMAGE` for a name, or a target of a link, that is not to be unpacked */
export function checkName(name: string): void {
  // It ends there for the kernel, and would be another name than the one that is judged.
  if (name.includes('\0')) throw imageError(`the name ${shownName(name)} has a null character in it`);
  const depth = name.split('/').length;
  if (name.length > MAX_NAME_BYTES)
    throw imageError(`the name ${startOf(name)} has ${name.length} bytes, more than ${MAX_NAME_BYTES}`);
  if (depth > MAX_DEPTH)
    throw imageError(`the name ${startOf(name)} has ${depth} parts, more than ${MAX_DEPTH}`);
}

/** @throws TsvmError `TSVM_IMAGE` for a part of a name that no folder can have */
export function checkPart(name: string, part: string): void {
  if (part.length > MAX_PART_BYTES)
    throw imageError(`the name ${startOf(name)} has a part of more than ${MAX_PART_BYTES} bytes`);
}

/** Name of an entry, for messages. */
export const shownName = (name: string): string =>
  JSON.stringify(Buffer.from(name, 'latin1').toString('utf8'));

const startOf = (name: string): string => `${shownName(name.slice(0, SHOWN_CHARACTERS))}...`;
