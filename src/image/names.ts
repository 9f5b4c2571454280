/**
 * Names of kept images: `names/` in the folder of images, one file for each, replaced in one step. What a name leads to is the digest of a
 * manifest. An image that lost its last name to another one stays, as one without a name, until it is removed.
 */
import { createHash } from 'node:crypto';
import type { OwnFolder } from '../host/own-folder.js';
import { DIGEST } from './digest.js';
import { formatReference, type Reference } from './reference.js';
import { imageDirectory, NAMES, openIn } from './store-folder.js';

/** Bound of a file of it, of which the name is the longest part. */
const MAX_RECORD_BYTES = 4096;

export interface NameRecord {
  /** Whole name; undefined for an image that has none any more. */
  readonly name?: string;
  /** Digest of the manifest. */
  readonly digest: string;
}

export class NameStore {
  readonly directory: string;

  /** @param directory - folder of images. Default: {@link imageDirectory} */
  constructor(directory: string = imageDirectory()) {
    this.directory = directory;
  }

  /** All names, in their order, and images without one. */
  list(): NameRecord[] {
    using folder = this.#open();
    return folder
      .names()
      .filter((file) => !file.startsWith('.'))
      .flatMap((file) => parseRecord(folder.read(file, MAX_RECORD_BYTES)) ?? [])
      .sort((a, b) => ((a.name ?? '~') < (b.name ?? '~') ? -1 : 1));
  }

  /** Digest of the manifest that a name leads to; undefined if there is no such name. */
  digestOf(reference: Reference): string | undefined {
    using folder = this.#open();
    return parseRecord(folder.read(fileOf(formatReference(reference)), MAX_RECORD_BYTES))?.digest;
  }

  /** Lets a name lead to a manifest, whose blobs are there. The image that had the name before stays, if need be without one. */
  set(reference: Reference, digest: string): void {
    const before = this.digestOf(reference);
    using folder = this.#open();
    if (before !== undefined && before !== digest) this.keep(before);
    const name = formatReference(reference);
    folder.write(fileOf(name), JSON.stringify({ name, digest } satisfies NameRecord));
    folder.remove(fileOf(digest));
    // The one that had it is not without a name if it has another one.
    if (before !== undefined && this.#namesOf(before).length > 0) folder.remove(fileOf(before));
  }

  /** Keeps an image that has no name. */
  keep(digest: string): void {
    using folder = this.#open();
    folder.write(fileOf(digest), JSON.stringify({ digest } satisfies NameRecord));
  }

  /** Forgets a name, or that an image without one is kept. */
  remove({ name, digest }: NameRecord): void {
    using folder = this.#open();
    folder.remove(fileOf(name ?? digest));
  }

  #namesOf(digest: string): NameRecord[] {
    return this.list().filter((record) => record.digest === digest && record.name !== undefined);
  }

  #open(): OwnFolder {
    return openIn(this.directory, NAMES);
  }
}

/** Name of a name's file: the name itself has slashes, and is longer than a file's may be. */
const fileOf = (name: string): string => createHash('sha256').update(name).digest('hex');

/** Reads a record; undefined for what is none: a name that leads nowhere is none. */
function parseRecord(text: string | undefined): NameRecord | undefined {
  if (text === undefined) return undefined;
  try {
    const { name, digest } = JSON.parse(text) as Partial<Record<string, unknown>>;
    if (typeof digest !== 'string' || !DIGEST.test(digest)) return undefined;
    return typeof name === 'string' ? { name, digest } : { digest };
  } catch {
    return undefined;
  }
}
