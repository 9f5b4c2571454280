/** A root for those whose kernel mounts no overlay for them (before Linux 5.11): a copy of the layers, which goes with the container. */
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, type Stats } from 'node:fs';
import { cp } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import { refuse } from './config.js';

const PREFIX = 'tsvm-root-';
/** The copy, in a folder that is this user's alone. */
const ROOT = 'root';
const COPY_FOLDER: FolderRules = {
  code: 'TSVM_CONTAINER',
  what: 'the folder of a copied root',
  hint: 'remove it',
  secret: true,
};
/** fs/overlayfs/super.c got FS_USERNS_MOUNT in 5.11. */
const FIRST_KERNEL = [5, 11] as const;

/** Whether this kernel mounts an overlay in a user's namespace. */
export function mountsOverlayForUsers(kernel = release()): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map(Number);
  return major > FIRST_KERNEL[0] || (major === FIRST_KERNEL[0] && minor >= FIRST_KERNEL[1]);
}

/**
 * Copies layers over one another, the lowest first, with modes, times and links; owners become this user, as they are for it in the
 * container. What a layer says is gone (Documentation/filesystems/overlayfs.rst) is, but for opaque directories: their
 * mark is an attribute that users cannot read.
 *
 * @returns the directory, which is the caller's to remove
 * @throws TsvmError `TSVM_CONTAINER` for what cannot be read or copied; nothing is left then.
 */
export async function copyLayers(layers: readonly string[], signal?: AbortSignal): Promise<string> {
  // The container may open its root to everybody; nobody comes through the folder around it.
  const directory = join(mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`)), ROOT);
  try {
    mkdirSync(directory);
    for (const layer of layers) {
      await cp(layer, directory, {
        recursive: true,
        preserveTimestamps: true,
        verbatimSymlinks: true,
        filter: (source) => {
          signal?.throwIfAborted();
          return takes(lstatSync(source), join(directory, relative(layer, source)));
        },
      });
    }
    return directory;
  } catch (cause) {
    removeCopy(directory);
    signal?.throwIfAborted();
    const { code, path } = cause as { code?: string; path?: string };
    throw refuse(
      `the layers cannot be copied, which this kernel needs: ${code} ${path ?? ''}`.trimEnd(),
      'make them readable; a Linux of 5.11 or later mounts them instead',
      cause,
    );
  }
}

/** Removes copies of this user's processes that were killed. What has another owner, or is a link, is somebody's trap. */
export function sweepCopies(isAlive: (pid: number) => boolean): void {
  for (const name of readdirSync(tmpdir())) {
    const [, pid] = /^tsvm-root-(\d+)-/.exec(name) ?? [];
    if (pid !== undefined && !isAlive(Number(pid))) removeCopy(join(tmpdir(), name, ROOT));
  }
}

/**
 * Removes a copy by way of the open folder around it, which nobody else may enter: whoever moves things about in the folder of temporary
 * files meanwhile has nothing else removed.
 *
 * @param directory - as {@link copyLayers} returned it
 */
export function removeCopy(directory: string): void {
  try {
    using folder = OwnFolder.open(dirname(directory), COPY_FOLDER);
    folder?.remove(ROOT);
    rmdirSync(dirname(directory)); // which takes nothing with it
  } catch {
    // Another user's, or another process was quicker.
  }
}

/** Whether it is copied; whatever another kind of it hides below goes first. */
function takes(stats: Stats, target: string): boolean {
  if (stats.isFIFO() || stats.isSocket() || stats.isBlockDevice()) return false;
  const below = lstatSync(target, { throwIfNoEntry: false });
  if (below !== undefined && !(below.isDirectory() && stats.isDirectory())) {
    rmSync(target, { recursive: true, force: true });
  }
  return !stats.isCharacterDevice(); // 0:0 is a whiteout, which hid what is gone now
}
