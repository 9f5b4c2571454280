/** Images of a file or folder, taken into the store under the names that they have there. */
import { createHash } from 'node:crypto';
import { Blob, type BlobPlace } from './blob.js';
import type { BlobStore } from './blob-store.js';
import { type Compression, compressionOf } from './decompress.js';
import type { Layer } from './image.js';
import { imageError } from './image-error.js';
import type { KeptImages } from './kept-images.js';
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from './oci/media-types.js';
import { parseReference, type Reference } from './reference.js';
import { type DockerImage, imagesInArchive } from './source/docker-archive.js';
import type { Members } from './source/members.js';
import { imagesInLayout, layoutBlobs, type NamedImage } from './source/oci-layout.js';
import type { Source } from './source/open-source.js';

export interface LoadedImage {
  /** Digest of the manifest. */
  readonly digest: string;
  /** Names that it has now; none of an image that has none in what was loaded. */
  readonly names: readonly Reference[];
}

/**
 * Loads every image that runs here. Each has its names when all of its blobs are there; one that fails leaves those before it.
 *
 * @throws TsvmError `TSVM_IMAGE` for what holds no image with layers, and what is changed, missing or too large
 */
export async function loadImages(
  source: Source,
  kept: KeptImages,
  signal?: AbortSignal,
): Promise<LoadedImage[]> {
  switch (source.kind) {
    case 'OCI layout': {
      const images = await imagesInLayout(source.members);
      return await each(images, async (image) => await loadOci(image, source.members, kept, signal), kept);
    }
    case 'Docker archive': {
      const images = await imagesInArchive(source.members);
      return await each(images, async (image) => await loadDocker(image, kept.blobs, signal), kept);
    }
    case 'directory':
    case 'root archive':
      throw imageError(
        `${source.path}: it is ${source.kind === 'directory' ? 'a directory' : 'an archive'} of a root, and no image with a name`,
        `it can be used as it is: tsvm run --image ${source.path} -- COMMAND`,
      );
    default:
      return source satisfies never;
  }
}

async function each<T extends { readonly names: readonly string[] }>(
  images: readonly T[],
  load: (image: T) => Promise<string>,
  { blobs, names }: KeptImages,
): Promise<LoadedImage[]> {
  const loaded: LoadedImage[] = [];
  for (const image of images) {
    // Names are looked at before anything is copied.
    const references = image.names.map((name) => parseReference(name));
    // What is copied has no name before all is there.
    const digest = await blobs.hold(async () => {
      const manifest = await load(image);
      for (const reference of references) names.set(reference, manifest);
      if (references.length === 0) names.keep(manifest);
      return manifest;
    });
    loaded.push({ digest, names: references });
  }
  return loaded;
}

async function loadOci(
  { descriptor, manifest }: NamedImage,
  members: Members,
  { blobs }: KeptImages,
  signal: AbortSignal | undefined,
): Promise<string> {
  const from = layoutBlobs(members);
  for (const { digest } of [manifest.config, ...manifest.layers, descriptor])
    await copy({ ...from.place(digest), signal }, digest, blobs);
  return descriptor.digest;
}

/** Loads an image of Docker's archive, for which a manifest is made: always the same for the same layers. */
async function loadDocker(
  { id, place, layers }: DockerImage,
  blobs: BlobStore,
  signal: AbortSignal | undefined,
): Promise<string> {
  const described = [];
  for (const layer of layers) described.push(await loadLayer({ ...layer, signal }, blobs));
  await copy({ ...place, signal }, id, blobs);
  const config = { mediaType: OCI_CONFIG, digest: id, size: blobs.sizeOf(id) };
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: described };
  return (await blobs.addBytes(Buffer.from(JSON.stringify(manifest)))).digest;
}

async function loadLayer(layer: Layer, blobs: BlobStore) {
  await using blob = await Blob.open(layer);
  const compression = compressionOf(await blob.magic());
  const mediaType = mediaTypeOf(compression);
  const hash = createHash('sha256');
  for await (const piece of blob.pieces()) hash.update(piece);
  const digest = `sha256:${hash.digest('hex')}`;
  if (compression === undefined && layer.diffId !== undefined && digest !== layer.diffId) {
    throw imageError(
      `${blob.name}: it does not have the digest that the image’s configuration says`,
      'the image is not whole: save it again',
    );
  }
  await copy(layer, digest, blobs);
  return { mediaType, digest, size: blob.sizeBytes };
}

/** Media type of a layer. @throws TsvmError `TSVM_IMAGE` if there is none for its compression */
function mediaTypeOf(compression: Compression | undefined): string {
  if (compression === undefined) return OCI_LAYER;
  if (compression === 'gzip' || compression === 'zstd') return `${OCI_LAYER}+${compression}`;
  throw imageError('a layer of it has a compression that no image has', 'gzip or zstd');
}

async function copy(place: BlobPlace, digest: string, blobs: BlobStore): Promise<void> {
  await using blob = await Blob.open({ ...place, digest });
  await blobs.add({ digest, size: blob.sizeBytes }, (start) => from(blob, start));
}

async function* from(blob: Blob, start: number): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const piece of blob.pieces()) {
    const skipped = Math.max(0, Math.min(piece.length, start - at));
    at += piece.length;
    if (skipped < piece.length) yield piece.subarray(skipped);
  }
}
