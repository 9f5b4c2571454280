/**
 * Files below a directory whose content is not trusted: an image's, a user's folder. The launcher does the same in the container by openat2
 * (kvm-addon/launcher/path.c); Node has no such call, so that each part is opened by its name in a directory that is open.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync } from 'node:fs';
import { isErrnoError } from '../errors.js';
import { O_PATH } from './files.js';

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
/** Bound of links on the walk, as Linux’s own. */
const MAX_LINKS = 40;
const MAX_PATH_BYTES = 4096;

/**
 * Reads a file; `undefined` if there is none, what is there is no file, or links lead in circles. Links are followed as if `root` were
 * the root, so that none leads out of it, also while others change what is in it.
 *
 * @throws RangeError for a file longer than `maxBytes`; errnos of the file system.
 */
export function readFileIn(root: string, path: string, maxBytes: number): Buffer | undefined {
  const place = openPathIn(root, path);
  if (place === undefined) return undefined;
  try {
    if (!fstatSync(place).isFile()) return undefined;
    const file = openSync(ownPath(place), O_RDONLY | O_NONBLOCK);
    try {
      return readUpTo(file, maxBytes);
    } finally {
      closeSync(file);
    }
  } finally {
    closeSync(place);
  }
}

/** Opens a path for its descriptor alone, which is the caller's to close. */
function openPathIn(root: string, path: string): number | undefined {
  const walk = [openSync(root, O_PATH | O_DIRECTORY)];
  const rest = path.split('/');
  let links = 0;
  try {
    for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (walk.length > 1) closeSync(walk.pop() as number);
        continue;
      }
      const at = `${ownPath(walk.at(-1) as number)}/${name}`;
      const target = linkAt(at);
      if (target === undefined) {
        walk.push(openSync(at, O_PATH | O_NOFOLLOW));
        continue;
      }
      links++;
      if (links > MAX_LINKS) return undefined;
      if (target.startsWith('/')) for (const fd of walk.splice(1)) closeSync(fd);
      rest.unshift(...target.split('/'));
      if (rest.join('/').length > MAX_PATH_BYTES) return undefined;
    }
    return walk.pop();
  } catch (error) {
    if (isErrnoError(error) && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code ?? '')) return undefined;
    throw error;
  } finally {
    for (const fd of walk) closeSync(fd);
  }
}

/** Path of what is open: a name that is nobody else's to change. */
function ownPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (isErrnoError(error) && error.code === 'EINVAL') return undefined;
    throw error;
  }
}

function readUpTo(file: number, maxBytes: number): Buffer {
  const bytes = Buffer.alloc(Math.min(fstatSync(file).size, maxBytes) + 1);
  let length = 0;
  for (let count = -1; count !== 0 && length < bytes.length; length += count)
    count = readSync(file, bytes, length, bytes.length - length, null);
  if (length > maxBytes) throw new RangeError(`it is longer than ${maxBytes} bytes`);
  return bytes.subarray(0, length);
}
