/** Archives as a directory, which containers have under an overlay. */
import type { Blob } from './blob.js';
import { isCompressed } from './decompress.js';
import type { Layer } from './image.js';
import { imageError } from './image-error.js';
import { BLOCK_BYTES, parseHeader } from './tar/format.js';
import type { Limits } from './tar/limits.js';
import { DirectorySink } from './tree/directory-sink.js';
import { applyLayers, named } from './tree/layers.js';

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

function noArchive(cause?: unknown): Error {
  return imageError(
    'it is not an archive',
    'give one of docker save, podman save, skopeo, or of a root: tar -C ROOT -cf FILE .',
    cause,
  );
}

/** Looks whether a file begins as an archive does. @throws TsvmError `TSVM_IMAGE` that names it. */
export async function lookAtArchive(blob: Blob): Promise<void> {
  await named(blob, async () => {
    const start = await blob.magic();
    if (isCompressed(start) || (start.length === BLOCK_BYTES && start.every((byte) => byte === 0))) return;
    if (start.length < BLOCK_BYTES) throw noArchive();
    try {
      parseHeader(start);
    } catch (cause) {
      throw noArchive(cause);
    }
  });
}
