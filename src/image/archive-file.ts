/** Archives that are written to a file, since they cannot be read where they are: they are compressed, or come by a pipe. */
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { TsvmError } from '../errors.js';
import { describeFileError, makeFolders } from '../host/files.js';
import { formatBytes } from '../util/units.js';
import type { Blob } from './blob.js';
import { contentOf } from './decompress.js';
import { MAX_IMAGE_BYTES } from './image.js';
import { imageError } from './image-error.js';
import { named } from './tree/layers.js';

/** Writes what a compressed archive holds to a new file of a folder, which is made. @throws TsvmError `TSVM_IMAGE` that names the archive */
export async function writeUncompressed(
  blob: Blob,
  folder: string,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  const write = async (): Promise<void> => {
    await writeArchive(await contentOf(blob), folder, name, signal);
  };
  await named(blob, write, signal);
}

/**
 * Writes an archive to a new file of a folder, which is made.
 *
 * @returns its path
 * @throws TsvmError `TSVM_IMAGE` if it is larger than an image may be, or there is no space
 */
export async function writeArchive(
  pieces: AsyncIterable<Uint8Array>,
  folder: string,
  name: string,
  signal?: AbortSignal,
): Promise<string> {
  const path = join(folder, name);
  const bounded = async function* () {
    let length = 0;
    for await (const piece of pieces) {
      signal?.throwIfAborted();
      length += piece.length;
      if (length > MAX_IMAGE_BYTES) throw imageError(`it has more than ${formatBytes(MAX_IMAGE_BYTES)}`);
      yield piece;
    }
  };
  try {
    makeFolders(folder);
    await pipeline(bounded, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
    return path;
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof TsvmError || !(cause instanceof Error && 'syscall' in cause)) throw cause;
    throw imageError(
      `cannot write ${path}: ${describeFileError(cause)}`,
      'make space there, or set TSVM_IMAGE_DIR to a folder with more',
      cause,
    );
  }
}
