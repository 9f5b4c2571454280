/** Root of a machine: an image as a file system in a file, and beside it the image's tables of users. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolders } from '../host/files.js';
import type { LayeredImage } from './image.js';
import { ErofsSink } from './tree/erofs-sink.js';
import { applyLayers } from './tree/layers.js';
import { fileAt } from './tree/lookup.js';
import type { DirectoryNode, TreeSink } from './tree/tree.js';
import { ACCOUNT_TABLES, MAX_TABLE_BYTES } from './user.js';

/** Name of the file system in its folder. */
export const ROOT_FILE = 'root.erofs';

/** Makes a folder with both. @throws TsvmError `TSVM_IMAGE` that names the archive and what is wrong with it */
export async function makeRootFile(
  { key, layers }: LayeredImage,
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  makeFolders(join(folder, 'etc'));
  await using file = await ErofsSink.create(join(folder, ROOT_FILE), key);
  const sink: TreeSink = {
    data: (node, extents) => file.data(node, extents),
    drop: (node) => file.drop(node),
    async finish(root) {
      await file.finish(root);
      await keepTables(root, file, folder);
    },
  };
  await applyLayers(layers, sink, undefined, signal);
}

/** Keeps the tables, where names are looked up in them. One that is too long is so there as well. */
async function keepTables(root: DirectoryNode, file: ErofsSink, folder: string): Promise<void> {
  for (const path of ACCOUNT_TABLES) {
    const node = fileAt(root, path);
    if (node !== undefined) writeFileSync(join(folder, path), await file.read(node, MAX_TABLE_BYTES + 1));
  }
}
