/** Images that are kept under names: found by name or id, named, and removed with what no other image needs. */
import { join } from 'node:path';
import { discard } from '../host/folder-store.js';
import { OwnFolder } from '../host/own-folder.js';
import { type Flock, flock, type LockOptions } from '../host/process/file-lock.js';
import { processesUsing } from '../host/process/file-users.js';
import { BlobStore } from './blob-store.js';
import type { LayeredImage } from './image.js';
import { imageError } from './image-error.js';
import { keyOfManifest } from './key.js';
import { NameStore } from './names.js';
import { MAX_DOCUMENT_BYTES, type Manifest, readConfig, readDocument } from './oci/documents.js';
import { type BlobPlaces, readParts } from './oci/read-image.js';
import { formatReference, parseReference, type Reference } from './reference.js';
import { imageDirectory, STORE_RULES } from './store-folder.js';

/** Shortest part of an id that names an image. */
const MIN_ID_CHARACTERS = 4;

export interface KeptImage {
  /** Digest of its manifest. */
  readonly digest: string;
  /** Digest of its configuration, which Docker and podman call the image's id. */
  readonly id: string;
  /** Whole names, in their order. */
  readonly names: readonly string[];
  /** Time at which it was built, in milliseconds since 1970; undefined if it does not say. */
  readonly createdMs: number | undefined;
  /** Length of its blobs, as they came. */
  readonly bytes: number;
  /** Tells whether all of its blobs are there. */
  readonly whole: boolean;
}

export class KeptImages {
  readonly directory: string;
  readonly names: NameStore;
  readonly blobs: BlobStore;

  /** @param directory - folder of images. Default: {@link imageDirectory} */
  constructor(directory: string = imageDirectory(), lock: Flock = flock) {
    this.directory = directory;
    this.names = new NameStore(directory);
    this.blobs = new BlobStore(directory, lock);
  }

  /** All images, by their names. */
  async list(): Promise<KeptImage[]> {
    const byDigest = new Map<string, string[]>();
    for (const { name, digest } of this.names.list()) {
      const names = byDigest.get(digest) ?? [];
      byDigest.set(digest, name === undefined ? names : [...names, name]);
    }
    return await Promise.all([...byDigest].map(async ([digest, names]) => await this.#read(digest, names)));
  }

  /**
   * Finds an image by a name, as Docker takes them, or by its id, or the first four characters of it or more.
   *
   * @param unqualified - as of {@link parseReference}
   * @throws TsvmError `TSVM_IMAGE` if there is none, or several have such an id
   */
  async find(
    text: string,
    unqualified?: string,
  ): Promise<{ readonly image: KeptImage; readonly name?: string }> {
    const images = await this.list();
    const reference = attempt(() => parseReference(text, unqualified));
    const name = reference === undefined ? undefined : formatReference(reference);
    const named = images.find(({ names }) => name !== undefined && names.includes(name));
    if (named !== undefined && name !== undefined) return { image: named, name };
    const [image, ...others] = images.filter((one) => isIdOf(one, text) || isDigestOf(one, reference));
    if (image === undefined)
      throw imageError(`there is no image ${JSON.stringify(text)}`, 'tsvm images lists those that are here');
    if (others.length > 0)
      throw imageError(
        `several images have an id that begins with ${text}`,
        'give more of it: tsvm images --no-trunc',
      );
    return { image };
  }

  /** Opens the image of a name or an id; undefined if there is none. @throws TsvmError `TSVM_IMAGE` if blobs of it are missing */
  async open(text: string, unqualified?: string): Promise<LayeredImage | undefined> {
    const reference = attempt(() => parseReference(text, unqualified));
    const digest =
      (reference === undefined ? undefined : this.names.digestOf(reference)) ??
      (await this.list()).find((image) => isIdOf(image, text) || isDigestOf(image, reference))?.digest;
    if (digest === undefined) return undefined;
    const manifest = await this.#manifest(digest);
    return { kind: 'layers', key: keyOfManifest(digest), ...(await readParts(manifest, this.places)) };
  }

  /** Manifest of an image. @throws TsvmError `TSVM_IMAGE` */
  async #manifest(digest: string): Promise<Manifest> {
    const document = await readDocument(this.places.place(digest));
    if (document.kind !== 'image') throw imageError(`${digest}: it is no image`, 'tsvm rmi removes it');
    return document.manifest;
  }

  async #read(digest: string, names: readonly string[]): Promise<KeptImage> {
    const unknown = { digest, id: digest, names, createdMs: undefined, bytes: 0, whole: false };
    const size = this.blobs.sizeOf(digest);
    if (size === undefined) return unknown;
    try {
      const { config, layers } = await this.#manifest(digest);
      const sizes = [config, ...layers].map((blob) => this.blobs.sizeOf(blob.digest));
      const { created } = await readConfig(this.places.place(config.digest));
      const createdMs = Date.parse(created ?? '');
      return {
        ...{ digest, names, id: config.digest },
        createdMs: Number.isNaN(createdMs) ? undefined : createdMs,
        bytes: sizes.reduce<number>((sum, one) => sum + (one ?? 0), size),
        whole: !sizes.includes(undefined),
      };
    } catch {
      return unknown; // its name can be removed all the same
    }
  }

  /** Places of the blobs that are kept. */
  get places(): BlobPlaces {
    return {
      name: this.directory,
      place: (digest) => {
        if (this.blobs.sizeOf(digest) === undefined)
          throw imageError(
            `${this.directory}: the blob ${digest} is missing`,
            'the image is not whole: pull it again',
          );
        return { path: this.blobs.pathOf(digest), digest };
      },
    };
  }

  /**
   * Takes a name from an image, or removes the image with its last one, and with it what no other image needs.
   *
   * @throws TsvmError `TSVM_IMAGE` if there is none, or it is not to be removed
   */
  async remove(
    text: string,
    { force = false, unqualified, ...options }: RemoveOptions = {},
  ): Promise<Removed> {
    const { image, name } = await this.find(text, unqualified);
    if (name !== undefined && image.names.length > 1) {
      this.names.remove({ name, digest: image.digest });
      return { names: [name], usedBy: [], bytes: 0 };
    }
    if (image.names.length > 1 && !force)
      throw imageError(
        `image ${text} has several names: ${image.names.join(', ')}`,
        'remove them one by one, or all: --force',
      );
    const usedBy = this.usersOf(image);
    if (usedBy.length > 0 && !force) {
      throw imageError(
        `image ${text} is used by ${usedBy.length === 1 ? 'process' : 'processes'} ${usedBy.join(', ')}`,
        'end what runs from it, or remove the image and let that go on: --force',
      );
    }
    return await this.#removeWhole(image, usedBy, options);
  }

  /** Processes that run from what was made of an image. */
  usersOf({ digest }: Pick<KeptImage, 'digest'>): number[] {
    return processesUsing(join(this.directory, keyOfManifest(digest)));
  }

  async #removeWhole(
    { digest, id, names }: KeptImage,
    usedBy: readonly number[],
    options: LockOptions,
  ): Promise<Removed> {
    for (const name of names) this.names.remove({ name, digest });
    this.names.remove({ digest });
    const bytes = await this.removeUnused(options);
    using store = OwnFolder.make(this.directory, STORE_RULES);
    // What is in use goes when it was not used for long.
    if (usedBy.length === 0) discard(store, keyOfManifest(digest));
    return { names, id, usedBy, bytes };
  }

  /** Removes the blobs that no image has, when nobody adds any. Returns their length. */
  async removeUnused(options: LockOptions = {}): Promise<number> {
    const removed = await this.blobs.retain(
      () => new Set(this.names.list().flatMap(({ digest }) => [digest, ...this.#digestsIn(digest)])),
      options,
    );
    return removed.reduce((sum, { size }) => sum + size, 0);
  }

  /** All digests that stand in a manifest. */
  #digestsIn(digest: string): string[] {
    const isThere = this.blobs.sizeOf(digest) !== undefined;
    const text = isThere ? this.blobs.read(digest, MAX_DOCUMENT_BYTES) : '';
    return text.match(/\bsha256:[0-9a-f]{64}\b/g) ?? [];
  }
}

export interface RemoveOptions extends LockOptions {
  /** Also one that has several names and is named by its id, or that is used: what runs goes on. Default false. */
  readonly force?: boolean;
  /** Registry, and path for names of one part, that a name without a registry means. */
  readonly unqualified?: string | undefined;
}

export interface Removed {
  /** Names that are gone. */
  readonly names: readonly string[];
  /** Image that is gone; undefined if it has another name. */
  readonly id?: string;
  /** Processes that go on with it. */
  readonly usedBy: readonly number[];
  /** Length of the blobs that are gone. */
  readonly bytes: number;
}

function isIdOf({ id, digest }: KeptImage, text: string): boolean {
  const hex = text.replace(/^sha256:/, '');
  if (!/^[0-9a-f]+$/.test(hex) || hex.length < MIN_ID_CHARACTERS) return false;
  return [id, digest].some((one) => one.slice('sha256:'.length).startsWith(hex));
}

/** Tells whether a reference is `NAME@sha256:...`, and an image has that digest, and NAME with any tag. */
function isDigestOf({ digest, names }: KeptImage, reference: Reference | undefined): boolean {
  if (reference?.digest !== digest) return false;
  return names
    .map((name) => parseReference(name))
    .some(
      ({ registry, repository }) => registry === reference.registry && repository === reference.repository,
    );
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}
