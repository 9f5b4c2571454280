/** Where a copy goes, by docker's rules for `cp`. */
import { posix } from 'node:path';
import { TsvmError } from '../errors.js';

/** What is copied. */
export interface CopySource {
  readonly path: string;
  readonly isDirectory: boolean;
}

/** What has the name that was given as the destination. */
export interface CopyDestination {
  readonly path: string;
  readonly kind: 'missing' | 'directory' | 'other';
}

/** Tells whether a path names a directory, or what a link leads to: it ends in `/` or `/.`. */
export function isFollowed(path: string): boolean {
  return path === '.' || path.endsWith('/') || path.endsWith('/.');
}

/**
 * Path that the copy has. The content of a directory is copied into a directory of that name; a directory that is there takes the source with
 * its own name, unless the source ends in `/.`.
 *
 * @throws TsvmError `TSVM_FILE` for a directory that would take the place of a file, and for a missing directory that a file should go to.
 */
export function copyPath(source: CopySource, { path, kind }: CopyDestination): string {
  const normal = posix.normalize(path);
  const bare = normal === '/' ? normal : normal.replace(/\/$/, '');
  const refuse = (why: string, hint: string): Error => new TsvmError('TSVM_FILE', `${path} ${why}`, { hint });
  if (kind === 'directory') {
    const base = posix.basename(posix.normalize(source.path));
    const isContent = source.path === '.' || source.path.endsWith('/.') || ['', '.', '..'].includes(base);
    return source.isDirectory && isContent ? bare : posix.join(bare, base);
  }
  if (kind === 'other' && source.isDirectory)
    throw refuse('is no directory', `${source.path} is one: give a directory, or a new name`);
  if (kind === 'other' && path.endsWith('/')) throw refuse('is no directory', `without the / it is replaced`);
  if (kind === 'missing' && !source.isDirectory && path.endsWith('/'))
    throw refuse('is not there', 'make the directory first');
  return bare;
}
