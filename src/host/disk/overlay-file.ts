/**
 * Clusters in a file of their own, over a base that does not change.
 *
 * ```text
 *   0        header: what it is, and of which base
 *   4096     bitmap: one bit for each cluster of 4 KiB that the overlay has; 4 KiB of it for 128 MiB of disk
 *   ...      the disk, at a multiple of 4096: sparse, and each cluster where it is on the disk
 * ```
 *
 * A flush brings the clusters to storage before the bits that say that they are there. So after a crash the overlay has what was
 * flushed, and of everything since either the old or the new: what a disk promises.
 */
import { randomUUID } from 'node:crypto';
import { access, constants, link, open, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as z from 'zod/mini';
import { TsvmError } from '../../errors.js';
import type { NativeAddon } from '../../native/binding.js';
import { alignUp } from '../../util/units.js';
import { describeFileError } from '../files.js';
import { BITMAP_PAGE_BYTES, type ByteRange, CLUSTER_BYTES, ClusterSet, pagesOf } from './cluster-set.js';
import type { ClusterStore } from './cluster-store.js';
import { type DiskFile, lookAtDiskFile, openDiskFile } from './disk-file.js';

const MAGIC = 'tsvm disk overlay\n';
const HEADER_BYTES = 4096;

/** Facts by which a base is known. The time of a block device's last change is not known. */
export interface BaseFacts {
  readonly path: string;
  readonly sizeBytes: number;
  /** Nanoseconds since 1970, in decimal. */
  readonly mtimeNs: string | undefined;
}

const headerSchema = z.strictObject({
  version: z.literal(1),
  clusterBytes: z.literal(CLUSTER_BYTES),
  base: z.strictObject({
    sizeBytes: z.int().check(z.minimum(0)),
    mtimeNs: z.optional(z.string().check(z.regex(/^\d{1,20}$/))),
  }),
});

/**
 * Opens and locks the overlay `path` of `base`. It is made if it is not there and may be written to.
 *
 * @throws TsvmError `TSVM_DISK`, naming the path.
 */
export async function openOverlayFile(
  addon: NativeAddon,
  path: string,
  base: BaseFacts,
  options: { readonly readOnly: boolean },
): Promise<OverlayFile> {
  if (!options.readOnly) await create(path, base);
  const file = await openDiskFile(addon, path, options);
  try {
    await checkHeader(file, path, base);
    const overlay = new OverlayFile(file, base.sizeBytes);
    await overlay.load();
    return overlay;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Looks whether an overlay could be opened or made. Whether it is one of its base is told only by opening both.
 *
 * @throws TsvmError `TSVM_DISK` as {@link openOverlayFile}.
 */
export async function lookAtOverlayFile(
  path: string,
  options: { readonly readOnly: boolean },
): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (there === undefined && !options.readOnly) {
    await access(dirname(path), constants.W_OK | constants.X_OK).catch((cause) => {
      throw makeError(path, cause);
    });
    return;
  }
  await lookAtDiskFile(path, options);
  await using file = await open(path, constants.O_RDONLY);
  const { buffer, bytesRead } = await file.read(new Uint8Array(MAGIC.length), 0, MAGIC.length, 0);
  if (new TextDecoder().decode(buffer.subarray(0, bytesRead)) !== MAGIC) throw notAnOverlay(path);
}

/** Complete, or not at all; what is there already stays. */
async function create(path: string, base: BaseFacts): Promise<void> {
  const unfinished = `${path}.${randomUUID()}.new`;
  try {
    const there = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
    if (there !== undefined) return await there.close();
    await using file = await open(unfinished, 'wx', 0o644);
    const { sizeBytes, mtimeNs } = base;
    const header = { version: 1, clusterBytes: CLUSTER_BYTES, base: { sizeBytes, mtimeNs } };
    await file.write(MAGIC + JSON.stringify(header), 0);
    await file.truncate(dataOffset(sizeBytes) + sizeBytes);
    await file.sync();
    // Who made one meanwhile was first.
    await link(unfinished, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await using directory = await open(dirname(path), 'r');
    await directory.sync();
  } catch (cause) {
    throw makeError(path, cause);
  } finally {
    await rm(unfinished, { force: true });
  }
}

function makeError(path: string, cause: unknown): TsvmError {
  return new TsvmError('TSVM_DISK', `cannot make the overlay ${path}: ${describeFileError(cause)}`, {
    hint: 'check the path and its permissions, and the room that is left there',
    cause,
  });
}

function refused(path: string, what: string, hint: string): TsvmError {
  return new TsvmError('TSVM_DISK', `overlay ${path}: ${what}`, { hint });
}

function notAnOverlay(path: string): TsvmError {
  return refused(path, 'it is not an overlay', 'give the name of a file that is not there yet');
}

async function checkHeader(file: DiskFile, path: string, base: BaseFacts): Promise<void> {
  const bytes = new Uint8Array(HEADER_BYTES);
  await file.readv([bytes], 0);
  const text = new TextDecoder().decode(bytes);
  if (!text.startsWith(MAGIC)) throw notAnOverlay(path);
  const header = headerSchema.safeParse(jsonOf(text.slice(MAGIC.length).replace(/\0+$/, '')));
  if (!header.success)
    throw refused(path, 'its header is damaged, or of another version', 'begin with a new one');
  const { sizeBytes, mtimeNs } = header.data.base;
  if (sizeBytes !== base.sizeBytes || mtimeNs !== base.mtimeNs) {
    throw refused(
      path,
      `its base ${base.path} has changed since it was made, or is another`,
      'give the base that it was made of, its time of change included, or begin with a new overlay',
    );
  }
  if ((await file.stat()).size < dataOffset(sizeBytes) + sizeBytes)
    throw refused(path, 'it was cut short', 'begin with a new one');
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function dataOffset(diskBytes: number): number {
  return alignUp(HEADER_BYTES + pagesOf(diskBytes) * BITMAP_PAGE_BYTES, CLUSTER_BYTES);
}

export class OverlayFile implements ClusterStore {
  readonly isDurable = true;
  readonly own: ClusterSet = new ClusterSet();
  readonly file: DiskFile;
  readonly #diskBytes: number;
  readonly #dataOffset: number;
  /** Pages of the bitmap that are not as they are in the file. */
  readonly #dirty = new Set<number>();
  /** One flush after the other: one that found nothing to do must not end before the one that does it. */
  #flushing: Promise<void> = Promise.resolve();

  constructor(file: DiskFile, diskBytes: number) {
    this.file = file;
    this.#diskBytes = diskBytes;
    this.#dataOffset = dataOffset(diskBytes);
  }

  async load(): Promise<void> {
    const words = new Uint32Array(BITMAP_PAGE_BYTES / 4);
    const bytes = new Uint8Array(words.buffer);
    for (let page = 0; page < pagesOf(this.#diskBytes); page++) {
      await this.file.readv([bytes], HEADER_BYTES + page * BITMAP_PAGE_BYTES);
      if (words.some((word) => word !== 0)) this.own.setPage(page, words.slice());
    }
  }

  readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.file.readv(buffers, this.#dataOffset + offset);
  }

  writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.file.writev(buffers, this.#dataOffset + offset);
  }

  keep(range: ByteRange): void {
    for (const page of this.own.addAll(range)) this.#dirty.add(page);
  }

  punch(offset: number, length: number): Promise<void> {
    return this.file.writeZeroes(this.#dataOffset + offset, length, true);
  }

  async flush(): Promise<void> {
    const before = this.#flushing;
    const flush = before.catch(() => {}).then(() => this.#flush());
    this.#flushing = flush;
    await flush;
  }

  async #flush(): Promise<void> {
    // As they are now: the clusters that come while the data is on its way are not among that.
    const pages = [...this.#dirty].map((page) => [page, this.own.page(page).slice()] as const);
    this.#dirty.clear();
    try {
      await this.file.flush();
      if (pages.length === 0) return;
      for (const [page, words] of pages) await this.#writePage(page, words);
      await this.file.flush();
    } catch (error) {
      for (const [page] of pages) this.#dirty.add(page);
      throw error;
    }
  }

  async #writePage(page: number, words: Uint32Array): Promise<void> {
    const written = await this.file.writev(
      [new Uint8Array(words.buffer)],
      HEADER_BYTES + page * BITMAP_PAGE_BYTES,
    );
    if (written < BITMAP_PAGE_BYTES) throw new Error('short write');
  }

  async close(): Promise<void> {
    try {
      if (!this.file.readOnly) await this.flush();
    } finally {
      await this.file.close();
    }
  }
}
