/** Archives as a directory, which containers have under an overlay. */
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import type { Blob } from './blob.js';
import { isCompressed, uncompressed } from './decompress.js';
import type { Layer } from './image.js';
import { imageError } from './image-error.js';
import { BLOCK_BYTES, parseHeader } from './tar/format.js';
import type { Limits } from './tar/reader.js';
import { DirectorySink } from './tree/directory-sink.js';
import { applyLayers, LIMITS, named } from './tree/layers.js';

/**
 * Unpacks layers, the lowest first, into a new directory. Owners and capabilities are kept for the superuser. Nothing outside of the
 * directory is written or read.
 *
 * @throws TsvmError `TSVM_IMAGE` that names the archive and what is wrong with it; `TSVM_HOST` if the directory cannot be written.
 */
export async function unpackLayers(
  layers: readonly Layer[],
  directory: string,
  limits?: Readonly<Partial<Limits>>,
  signal?: AbortSignal,
): Promise<void> {
  await using sink = new DirectorySink(directory);
  await applyLayers(layers, sink, limits, signal);
}

/** Writes what a compressed archive holds to a new file. @throws TsvmError `TSVM_IMAGE` that names the archive */
export async function writeUncompressed(blob: Blob, path: string, signal?: AbortSignal): Promise<void> {
  const write = async (): Promise<void> => await writeArchive(await uncompressed(blob), path, signal);
  await named(blob, write, signal);
}

/** Writes an archive to a new file. @throws TsvmError `TSVM_IMAGE` if it is larger than an image may be, or there is no space */
export async function writeArchive(
  pieces: AsyncIterable<Uint8Array>,
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  let left = LIMITS.bytes;
  const bounded = async function* () {
    for await (const piece of pieces) {
      signal?.throwIfAborted();
      left -= piece.length;
      if (left < 0) throw imageError('it has more bytes than are unpacked');
      yield piece;
    }
  };
  try {
    await pipeline(bounded(), createWriteStream(path, { flags: 'wx', mode: 0o600 }));
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

/** Looks whether a file begins as an archive does. @throws TsvmError `TSVM_IMAGE` that names it. */
export async function lookAtArchive(blob: Blob): Promise<void> {
  await named(blob, async () => {
    const start = await blob.magic();
    if (isCompressed(start) || (start.length === BLOCK_BYTES && start.every((byte) => byte === 0))) return;
    if (start.length < BLOCK_BYTES)
      throw imageError('it is not an archive', 'tar -C ROOT -cf FILE . makes one');
    parseHeader(start);
  });
}
