/** Images among blobs: which one descriptors lead to, and what it is made of. */
import type { TsvmError } from '../../errors.js';
import type { BlobPlace } from '../blob.js';
import type { ImageConfig, Layer } from '../image.js';
import { imageError } from '../image-error.js';
import {
  type Descriptor,
  imageConfigOf,
  MAX_INDEX_DEPTH,
  type Manifest,
  readConfig,
  readDocument,
} from './documents.js';
import { isFit, isOfNone, platformName, rankOf } from './platform.js';

/** Bound of the documents that are read to find one image. */
const MAX_DOCUMENTS = 1000;

/** Blobs of images, by their digests: of a layout, of an archive, or of the store. */
export interface BlobPlaces {
  /** Name for messages. */
  readonly name: string;
  /** Place of a blob. @throws TsvmError `TSVM_IMAGE` if it is known that there is none */
  place(digest: string): BlobPlace;
}

/** Image that descriptors lead to. */
export interface FoundImage {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  /** Rank of its platform, by `rankOf()`. */
  readonly rank: number;
}

/** Reasons for which descriptors led to no image. */
export interface Unfit {
  readonly platforms: Set<string>;
  readonly artifacts: Set<string>;
}

/** Search, of which all steps count. */
interface Search extends Unfit {
  readonly blobs: BlobPlaces;
  documents: number;
}

export const newSearch = (blobs: BlobPlaces): Search => ({
  blobs,
  documents: 0,
  platforms: new Set(),
  artifacts: new Set(),
});

/**
 * Finds the image of a descriptor, of several platforms the one that runs here; undefined if there is none, and `search` says why.
 *
 * @throws TsvmError `TSVM_IMAGE` that names what is missing or changed
 */
export async function findImage(
  descriptor: Descriptor,
  search: Search,
  depth = 0,
): Promise<FoundImage | undefined> {
  const { platform, artifactType } = descriptor;
  if (artifactType !== undefined) search.artifacts.add(artifactType);
  else if (platform !== undefined && !isFit(platform)) addPlatform(search, platformName(platform));
  else return await findIn(descriptor, search, depth);
  return undefined;
}

async function findIn(
  descriptor: Descriptor,
  search: Search,
  depth: number,
): Promise<FoundImage | undefined> {
  const { blobs } = search;
  if (++search.documents > MAX_DOCUMENTS)
    throw imageError(`${blobs.name}: there are too many manifests in it`);
  const document = await readDocument(blobs.place(descriptor.digest));
  switch (document.kind) {
    case 'artifact':
      search.artifacts.add(document.type);
      return undefined;
    case 'image': {
      const { manifest } = document;
      // What an index says counts, where there is one.
      const platform = descriptor.platform ?? (await readConfig(blobs.place(manifest.config.digest)));
      if (isFit(platform)) return { descriptor, manifest, rank: rankOf(platform) };
      addPlatform(search, platformName(platform));
      return undefined;
    }
    case 'index': {
      if (depth === MAX_INDEX_DEPTH) throw imageError(`${blobs.name}: indexes within indexes within indexes`);
      let best: FoundImage | undefined;
      for (const one of document.index.manifests) {
        const found = await findImage(one, search, depth + 1);
        if (found !== undefined && (best === undefined || found.rank < best.rank)) best = found;
      }
      return best;
    }
    default:
      return document satisfies never;
  }
}

function addPlatform({ platforms, artifacts }: Unfit, name: string): void {
  if (isOfNone(name)) artifacts.add('an attestation');
  else platforms.add(name);
}

/** Error for a search that found nothing: what it is not is said, and what there is. */
export function nothingFound(name: string, { platforms, artifacts }: Unfit): TsvmError {
  if (platforms.size > 0) {
    return imageError(
      `${name}: there is no image for linux/amd64 in it, only for ${[...platforms].join(', ')}`,
      'a machine runs programs for the CPU of its host: take the image for linux/amd64',
    );
  }
  const what = [...artifacts].join(', ');
  return artifacts.size > 0
    ? imageError(
        `${name}: there is no image in it, only ${what}`,
        'a signature or another artifact runs nothing',
      )
    : imageError(`${name}: there is no image in it: its index has no manifests`);
}

/** An image's parts. */
export interface ImageParts {
  readonly config: ImageConfig;
  readonly layers: readonly Layer[];
}

/** Reads an image's configuration, and finds its layers. @throws TsvmError `TSVM_IMAGE` */
export async function readParts(manifest: Manifest, blobs: BlobPlaces): Promise<ImageParts> {
  const document = await readConfig(blobs.place(manifest.config.digest));
  const diffIds = document.rootfs?.diff_ids ?? [];
  const { layers } = manifest;
  if (diffIds.length > 0 && diffIds.length !== layers.length) {
    throw imageError(
      `${blobs.name}: it has ${layers.length} layers, and ${diffIds.length} by its configuration`,
    );
  }
  for (const { mediaType = '' } of layers) {
    if (/\+encrypted$/.test(mediaType))
      throw imageError(
        `${blobs.name}: its layers are encrypted`,
        'skopeo copy --decryption-key decrypts them',
      );
  }
  return {
    config: imageConfigOf(document),
    layers: layers.map(({ digest }, i) => ({ ...blobs.place(digest), diffId: diffIds[i] })),
  };
}
