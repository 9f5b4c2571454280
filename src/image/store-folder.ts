/** The folder that images are kept in: blobs as they came, and what was made of them. */
import { cacheDirectory } from '../host/cache-directory.js';
import type { FolderRules } from '../host/own-folder.js';

/** `$TSVM_IMAGE_DIR`, or `tsvm/images` in `$XDG_CACHE_HOME` or `~/.cache`. */
export function imageDirectory(): string {
  return cacheDirectory('TSVM_IMAGE_DIR', 'images');
}

/** Rules of the folder: programs of an image may be setuid, so that nobody else may come to them. */
export const STORE_RULES: FolderRules = {
  code: 'TSVM_IMAGE',
  what: 'the folder of images',
  hint: 'set TSVM_IMAGE_DIR to a folder of your own',
  secret: true,
};

/** Folders of blobs and of names in it. */
export const BLOBS = 'blobs';
export const NAMES = 'names';
