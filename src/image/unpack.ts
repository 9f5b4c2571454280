/**
 * Layers of an image (OCI image-spec 1.1, layer.md) as one directory: each is an archive over those below it.
 *
 * bsdtar unpacks them: it follows no symbolic link of an archive, and knows owners, attributes and every compression.
 */
import { lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { imageError } from './image-error.js';
import { outputOf } from './program.js';

const WHITEOUT = '.wh.';
/** Nothing of the layers below is in this directory. */
const OPAQUE = '.wh..wh..opq';
/** What is never unpacked: marks, and devices, which a container and a machine have their own of. */
const EXCLUDED = ['.wh.*', './dev/*', 'dev/*'].flatMap((pattern) => ['--exclude', pattern]);
const BSDTAR = { name: 'bsdtar', debianPackage: 'libarchive-tools' } as const;

/**
 * Unpacks archives, the lowest first, into an empty directory. Owners and attributes are kept for the superuser. No path of an archive
 * leads through a symbolic link or out of the directory.
 *
 * @throws TsvmError `TSVM_IMAGE` that names the archive and what is wrong with it; `TSVM_HOST` if bsdtar is not installed.
 */
export async function unpackLayers(layers: readonly string[], directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const keep =
    process.geteuid?.() === 0 ? ['--same-owner', '--numeric-owner', '--xattrs'] : ['--no-same-owner'];
  for (const [i, layer] of layers.entries()) {
    const complain = (complaint: string): Error => imageError(`${layer}: ${complaint}`);
    if (i > 0) whiteOut(await outputOf(BSDTAR, ['-t', '-f', layer], complain), directory);
    await outputOf(BSDTAR, ['-x', '-p', ...keep, ...EXCLUDED, '-C', directory, '-f', layer], complain);
  }
}

/** Removes what a layer says is not there any more, before any of it is unpacked: where the mark stands in it says nothing. */
function whiteOut(listing: string, directory: string): void {
  for (const mark of listing.split('\n').filter((path) => basename(path).startsWith(WHITEOUT))) {
    const folder = folderWithin(directory, dirname(mark));
    if (folder === undefined) continue;
    if (basename(mark) === OPAQUE) for (const name of readdirSync(folder)) remove(folder, name);
    else remove(folder, basename(mark).slice(WHITEOUT.length));
  }
}

function remove(folder: string, name: string): void {
  if (name === '' || name === '.' || name === '..') return;
  rmSync(join(folder, name), { recursive: true, force: true });
}

/** A directory below `root`, found through no link; undefined if there is none. */
function folderWithin(root: string, path: string): string | undefined {
  let folder = root;
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') return undefined;
    folder = join(folder, part);
    if (lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return undefined;
  }
  return folder;
}
