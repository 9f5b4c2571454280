/** Images: what a machine and a container get their root from. */
import { GIB } from '../util/units.js';
import type { BlobPlace } from './blob.js';

/** Bound of an image: of its blobs, of an archive of it, and of what all layers of it unpack to. */
export const MAX_IMAGE_BYTES: number = 256 * GIB;

/** An image of which nothing is made yet: a directory, which may change, or layers, which never do. */
export type Image = DirectoryImage | LayeredImage;

export interface DirectoryImage {
  readonly kind: 'directory';
  readonly directory: string;
  readonly config: ImageConfig;
}

export interface LayeredImage {
  readonly kind: 'layers';
  /** Name of its content in the store, for good. */
  readonly key: string;
  readonly config: ImageConfig;
  /** Layers, the lowest first. */
  readonly layers: readonly Layer[];
}

/** Defaults that an image has for the command that runs in it. */
export interface ImageConfig {
  readonly user?: string;
  readonly env?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  readonly workdir?: string;
}

/** Archive of what an image adds to the layers below it. */
export interface Layer extends BlobPlace {
  /** Digest of the archive when it is not compressed, which is compared while it is unpacked. */
  readonly diffId?: string | undefined;
}
