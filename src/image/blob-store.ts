/**
 * Blobs by their digests: `blobs/sha256/HEX` in the folder of images, each written once, for all images that have it.
 *
 * A blob is hashed while it is written to `.HEX.partial`, which one process at a time has locked, and has its name when its digest is
 * right. What a writer leaves that was killed or cut off is gone on with by the next one.
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import type { OwnFolder } from '../host/own-folder.js';
import { type Flock, flock, type LockOptions, waitForLock } from '../host/process/file-lock.js';
import { formatBytes } from '../util/units.js';
import { DIGEST, digestOf } from './digest.js';
import { imageError } from './image-error.js';
import { BLOBS, imageDirectory, openIn } from './store-folder.js';

const ALGORITHM = 'sha256';
const LOCK = '.lock';
const PARTIAL = /^\.[0-9a-f]{64}\.partial$/;
const BLOB = /^[0-9a-f]{64}$/;
/** Length of one read of what was there before. */
const PIECE_BYTES = 256 << 10;
/** Age at which a part of a blob, to which nothing was written since, is given up. */
const MAX_PARTIAL_AGE_MS = 7 * 24 * 3600 * 1000;

export interface BlobFacts {
  /** `sha256:HEX` */
  readonly digest: string;
  readonly size: number;
}

/** Gives a blob's bytes from `start` on. */
export type BlobSource = (start: number) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface AddOptions extends LockOptions {
  /** Called with how much of the blob is there, whenever that changes. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

export class BlobStore {
  readonly directory: string;
  readonly #flock: Flock;

  /** @param directory - folder of images. Default: {@link imageDirectory} */
  constructor(directory: string = imageDirectory(), lock: Flock = flock) {
    this.directory = directory;
    this.#flock = lock;
  }

  /** Path of a blob, whether it is there or not. */
  pathOf(digest: string): string {
    return join(this.directory, BLOBS, ALGORITHM, hexOf(digest));
  }

  /** Size of a blob; undefined if it is not there. */
  sizeOf(digest: string): number | undefined {
    using folder = this.#open();
    const stats = folder.stats(hexOf(digest));
    return stats?.isFile() === true ? stats.size : undefined;
  }

  /** Text of a blob that is there. @throws TsvmError `TSVM_IMAGE` if it is not, or longer than `maxBytes` */
  read(digest: string, maxBytes: number): string {
    using folder = this.#open();
    const text = folder.read(hexOf(digest), maxBytes);
    if (text === undefined) throw imageError(`${digest}: it was removed from ${this.directory}`);
    return text;
  }

  /** All blobs. */
  list(): BlobFacts[] {
    using folder = this.#open();
    return folder.names().flatMap((name) => {
      const stats = BLOB.test(name) ? folder.stats(name) : undefined;
      return stats?.isFile() === true ? [{ digest: `${ALGORITHM}:${name}`, size: stats.size }] : [];
    });
  }

  /**
   * Keeps a blob, unless it is there. What an earlier writer left is gone on with, and another one's is waited for. If `source` fails, what
   * it gave stays for the next time.
   *
   * @returns its path
   * @throws TsvmError `TSVM_IMAGE` if the blob has another size or digest, or there is no space for it.
   */
  async add(blob: BlobFacts, source: BlobSource, options: AddOptions = {}): Promise<string> {
    const name = hexOf(blob.digest);
    const partial = partialOf(name);
    for (;;) {
      using folder = this.#open();
      const there = this.sizeOf(blob.digest);
      if (there !== undefined) {
        if (there !== blob.size) throw wrongSize(blob, there);
        options.onProgress?.(there);
        return this.pathOf(blob.digest);
      }
      const file = await folder.openLock(partial).catch((cause) => {
        throw this.#failed(blob, cause);
      });
      try {
        await waitForLock(this.#flock, file.fd, 'exclusive', options);
        // Another writer may have finished the blob, which took the name from this file, or before this file was made.
        const isCurrent = folder.stats(partial)?.ino === (await file.stat()).ino;
        if (isCurrent && folder.stats(name) === undefined) {
          await this.#write(file, blob, source, options);
          folder.rename(partial, name);
        } else if (isCurrent) folder.remove(partial);
      } catch (cause) {
        if (isNoSpace(cause)) await file.truncate(0).then(() => folder.remove(partial));
        throw cause instanceof Error && 'syscall' in cause ? this.#failed(blob, cause) : cause;
      } finally {
        await file.close();
      }
    }
  }

  /** Keeps a document, such as a manifest. */
  async addBytes(bytes: Uint8Array): Promise<BlobFacts> {
    const blob = { digest: digestOf(bytes), size: bytes.length };
    await this.add(blob, (start) => [bytes.subarray(start)]);
    return blob;
  }

  /** Refuses blobs of which what is not there yet is larger than the space that is left. @throws TsvmError `TSVM_IMAGE` */
  async checkSpace(blobs: readonly BlobFacts[]): Promise<void> {
    using folder = this.#open();
    const bytes = blobs.reduce((sum, { digest, size }) => {
      const name = hexOf(digest);
      const there = folder.stats(name) ?? folder.stats(partialOf(name));
      return sum + Math.max(0, size - (there?.size ?? 0));
    }, 0);
    const { bavail, bsize } = await statfs(folder.self);
    if (bavail * bsize >= bytes) return;
    throw imageError(
      `${this.directory}: ${formatBytes(bytes)} are needed there, and ${formatBytes(bavail * bsize)} are free`,
      SPACE_HINT,
    );
  }

  /** Lets no blob be removed while `action` runs: what it adds or uses may have no name yet. */
  async hold<T>(action: () => Promise<T>, options: LockOptions = {}): Promise<T> {
    return await this.#locked('shared', options, async (folder) => {
      for (const name of folder.names()) {
        const age = Date.now() - (folder.stats(name)?.mtimeMs ?? Date.now());
        if (PARTIAL.test(name) && age > MAX_PARTIAL_AGE_MS) await this.#forget(name, folder);
      }
      return await action();
    });
  }

  /** Removes a part of a blob, unless a writer has it. */
  async #forget(partial: string, folder: OwnFolder): Promise<void> {
    const file = await folder.openLock(partial);
    try {
      if (!this.#flock(file.fd, 'exclusive')) return;
      if (folder.stats(partial)?.ino === (await file.stat()).ino) folder.remove(partial);
    } finally {
      await file.close();
    }
  }

  /**
   * Removes all blobs but some, and all parts of blobs, when nobody {@link hold}s them.
   *
   * @param kept - tells which stay; called when nobody can add any
   * @returns those that were removed
   */
  async retain(kept: () => ReadonlySet<string>, options: LockOptions = {}): Promise<BlobFacts[]> {
    return await this.#locked('exclusive', options, async (folder) => {
      const digests = kept();
      const removed = this.list().filter(({ digest }) => !digests.has(digest));
      for (const { digest } of removed) folder.remove(hexOf(digest));
      for (const name of folder.names()) if (PARTIAL.test(name)) folder.remove(name);
      return removed;
    });
  }

  async #locked<T>(
    mode: 'shared' | 'exclusive',
    options: LockOptions,
    action: (folder: OwnFolder) => Promise<T>,
  ): Promise<T> {
    using folder = this.#open();
    const file = await folder.openLock(LOCK);
    try {
      await waitForLock(this.#flock, file.fd, mode, options);
      return await action(folder);
    } finally {
      await file.close();
    }
  }

  /** Writes what is missing of a blob. A part that was there and turns out wrong is forgotten, and the blob written anew. */
  async #write(
    file: FileHandle,
    blob: BlobFacts,
    source: BlobSource,
    { onProgress, signal }: AddOptions,
  ): Promise<void> {
    for (;;) {
      if ((await file.stat()).size > blob.size) await file.truncate(0);
      const hash = createHash(ALGORITHM);
      const start = await hashAll(file, hash, signal);
      let length = start;
      onProgress?.(length);
      if (length < blob.size) {
        for await (const piece of source(length)) {
          signal?.throwIfAborted();
          if (length + piece.length > blob.size) {
            await file.truncate(0);
            throw wrongSize(blob, length + piece.length);
          }
          await writeAll(file, piece, length);
          hash.update(piece);
          length += piece.length;
          onProgress?.(length);
        }
      }
      if (length < blob.size) throw wrongSize(blob, length);
      const digest = `${ALGORITHM}:${hash.digest('hex')}`;
      if (digest === blob.digest) return await file.datasync();
      await file.truncate(0);
      if (start === 0)
        throw imageError(`${blob.digest}: what came has the digest ${digest}`, 'it was changed under way');
    }
  }

  #failed(blob: BlobFacts, cause: unknown): TsvmError {
    return imageError(
      `cannot keep ${blob.digest} in ${this.directory}: ${describeFileError(cause)}`,
      isNoSpace(cause) ? SPACE_HINT : 'check the permissions of the folder, or set TSVM_IMAGE_DIR to another',
      cause,
    );
  }

  #open(): OwnFolder {
    return openIn(this.directory, BLOBS, ALGORITHM);
  }
}

/** Name of the file of a blob that is not whole. */
const partialOf = (name: string): string => `.${name}.partial`;

const SPACE_HINT = 'make space there, or set TSVM_IMAGE_DIR to a folder with more';

function isNoSpace(cause: unknown): boolean {
  const { code } = cause as { code?: unknown };
  return code === 'ENOSPC' || code === 'EDQUOT';
}

function wrongSize(blob: BlobFacts, bytes: number): TsvmError {
  return imageError(
    `${blob.digest}: it has ${blob.size > bytes ? 'only' : 'at least'} ${bytes} bytes, and should have ${blob.size}`,
  );
}

/** Name of a blob's file. @throws TsvmError `TSVM_IMAGE` for what is no digest. */
function hexOf(digest: string): string {
  if (!DIGEST.test(digest)) throw imageError(`'${digest}' is not a SHA-256 digest`);
  return digest.slice(ALGORITHM.length + 1);
}

/** Hashes a file from its start. Returns its length. */
async function hashAll(file: FileHandle, hash: Hash, signal: AbortSignal | undefined): Promise<number> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  for (let length = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, length);
    if (bytesRead === 0) return length;
    signal?.throwIfAborted();
    hash.update(buffer.subarray(0, bytesRead));
    length += bytesRead;
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; )
    at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
}
