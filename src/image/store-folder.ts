/** The folder that images are kept in: blobs as they came, and what was made of them. */
import { cacheDirectory } from '../host/cache-directory.js';
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import { imageError } from './image-error.js';

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

/** Opens a folder in the folder of images, which is made; the path is that of folders in one another. @throws TsvmError `TSVM_IMAGE` */
export function openIn(directory: string, ...path: readonly string[]): OwnFolder {
  let folder = OwnFolder.make(directory, STORE_RULES);
  for (const name of path) {
    using outer = folder;
    outer.makeFolder(name);
    const inner = outer.folder(name);
    if (inner === undefined) throw imageError(`${outer.path}/${name}: it was removed again`);
    folder = inner;
  }
  return folder;
}
