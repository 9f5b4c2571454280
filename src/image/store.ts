import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { TsvmError } from '../errors.js';
import { discard, removeEntry, showEntry, unfinishedName } from '../host/folder-store.js';
import { OwnFolder } from '../host/own-folder.js';
import { type Flock, flock } from '../host/process/file-lock.js';
import { processesUsing } from '../host/process/file-users.js';
import type { Abortable } from '../util/abort.js';
import { writeArchive, writeUncompressed } from './archive-file.js';
import { Blob } from './blob.js';
import type { DirectoryImage, Image, LayeredImage } from './image.js';
import { imageError } from './image-error.js';
import { keyOfFile } from './key.js';
import type { LoadedImage } from './load-image.js';
import { makeRootFile, ROOT_FILE } from './root-file.js';
import { copyFromLocalStore, isInLocalStore } from './source/local-store.js';
import { findFile, lookAt, openFile } from './source/open-source.js';
import { imageDirectory, STORE_RULES } from './store-folder.js';
import { unpackLayers } from './unpack.js';

/** Reports of what may take a while, and is done once for an image. */
export interface MakeProgress extends Abortable {
  /** The image is being unpacked. */
  onUnpack?(): void;
  /** A file system is being made of it. */
  onMake?(): void;
}

/** Images that are kept unpacked; the one used longest ago goes first. */
const MAX_KEPT = 16;
/** Names in the folder of an image: a directory with its files, one with what machines have of it, and one with its archive. */
const ROOT = 'root';
const MACHINE = 'machine';
const ARCHIVE = 'archive';
/** Name of an archive that is not compressed. */
const PLAIN = 'plain.tar';

/** Store of what was made of images, by their content. */
export class ImageStore {
  readonly directory: string;
  readonly #flock: Flock;

  /** Default: $TSVM_IMAGE_DIR, or tsvm/images in $XDG_CACHE_HOME or ~/.cache. */
  constructor(
    directory: string = imageDirectory(),
    lock: (fd: number, mode: 'shared' | 'exclusive') => boolean = flock,
  ) {
    this.directory = directory;
    this.#flock = lock;
  }

  /**
   * Opens an image and reads its configuration; nothing is made of it yet.
   *
   * @param text - a directory, an archive, a layout; of several images in one `PATH:NAME` or `PATH@sha256:...`; else a name or an id
   * @throws TsvmError `TSVM_IMAGE`
   */
  async open(text: string, { signal }: Abortable = {}): Promise<Image> {
    signal?.throwIfAborted();
    const found = findFile(text);
    if (found !== undefined) return await openFile(found, (archive) => this.#uncompressed(archive, signal));
    if (isInLocalStore(text)) return await this.#openCopy(text, signal);
    // Schemas cost 60 ms to load, which is not for everybody.
    const { KeptImages } = await import('./kept-images.js');
    const image = await new KeptImages(this.directory, this.#flock).open(text);
    if (image !== undefined) return image;
    throw imageError(
      `image ${text}: there is no such file or directory, and no image of that name is kept`,
      'a directory, an archive of a root, what docker save wrote, an OCI layout, or a name: tsvm images lists them',
    );
  }

  /** Keeps all images of a file or folder, under the names that they have there. @throws TsvmError `TSVM_IMAGE` */
  async load(path: string, { signal }: Abortable = {}): Promise<readonly LoadedImage[]> {
    signal?.throwIfAborted();
    const [{ loadImages }, { KeptImages }] = await Promise.all([
      import('./load-image.js'),
      import('./kept-images.js'),
    ]);
    const found = findFile(path);
    if (found === undefined)
      throw imageError(`${path}: there is no such file or directory`, 'check the path');
    return await loadImages(
      await lookAt(found, (archive) => this.#uncompressed(archive, signal)),
      new KeptImages(this.directory, this.#flock),
      signal,
    );
  }

  /** Keeps all images of an archive that can be read only once. @throws TsvmError `TSVM_IMAGE` */
  async loadStream(
    bytes: AsyncIterable<Uint8Array>,
    { signal }: Abortable = {},
  ): Promise<readonly LoadedImage[]> {
    signal?.throwIfAborted();
    using store = OwnFolder.make(this.directory, STORE_RULES);
    const unfinished = unfinishedName(store);
    try {
      const path = await writeArchive(bytes, join(this.directory, unfinished), PLAIN, signal);
      return await this.load(path, { signal }).catch((error: unknown) => {
        throw ofStream(error, path);
      });
    } finally {
      discard(store, unfinished);
    }
  }

  /**
   * Keeps others from removing what was made of an image, as long as this process lives or until it is disposed of. Whoever removes images
   * looks for processes that have its folder open.
   */
  use(image: Image): Disposable {
    if (image.kind === 'directory') return { [Symbol.dispose]: () => {} };
    using store = OwnFolder.make(this.directory, STORE_RULES);
    return store.folder(image.key) ?? { [Symbol.dispose]: () => {} };
  }

  /**
   * Opens the root of a guest that tsvm builds, for a command on the host's kernel; it is unpacked the first time.
   *
   * @param initramfs - the guest's
   * @throws TsvmError `TSVM_IMAGE`
   */
  async openGuest(initramfs: string, { onUnpack, signal }: MakeProgress = {}): Promise<DirectoryImage> {
    signal?.throwIfAborted();
    await using archive = await Blob.open({ path: initramfs, signal });
    const directory = await this.#made(keyOfFile('guest', archive), ROOT, async (unpacking) => {
      onUnpack?.();
      const { unpackGuest } = await import('./guest-root.js');
      await unpackGuest(archive, unpacking);
    });
    return { kind: 'directory', directory, config: {} };
  }

  /** Directory with an image's files, for containers; layers are unpacked the first time. @throws TsvmError `TSVM_IMAGE` */
  async directoryOf(image: Image, { onUnpack, signal }: MakeProgress = {}): Promise<string> {
    signal?.throwIfAborted();
    if (image.kind === 'directory') return image.directory;
    return await this.#made(image.key, ROOT, async (unpacking) => {
      onUnpack?.();
      await unpackLayers(image.layers, unpacking, undefined, signal);
    });
  }

  /** File with a file system of an image, for machines to map; made the first time. @throws TsvmError `TSVM_IMAGE`; `TSVM_HOST` without room for it */
  async rootFileOf(image: LayeredImage, { onMake, signal }: MakeProgress = {}): Promise<string> {
    signal?.throwIfAborted();
    const folder = await this.#made(image.key, MACHINE, async (making) => {
      onMake?.();
      await makeRootFile(image, making, signal);
    });
    return join(folder, ROOT_FILE);
  }

  /** Directory whose etc/passwd and etc/group are those of an image of which {@link directoryOf} or {@link rootFileOf} was made. */
  accountsOf(image: Image): string {
    if (image.kind === 'directory') return image.directory;
    using store = OwnFolder.make(this.directory, STORE_RULES);
    return join(this.directory, image.key, isMade(store, image.key, ROOT) ? ROOT : MACHINE);
  }

  /** Keys of all that was made of images, and is kept. */
  made(): string[] {
    using store = OwnFolder.make(this.directory, STORE_RULES);
    return store.names().filter(isKey);
  }

  /** Tells whether a process uses what was made of an image. */
  isUsed(key: string): boolean {
    return processesUsing(join(this.directory, key)).length > 0;
  }

  /** Removes what was made of an image, unless a process uses it. Returns whether it is gone. */
  removeMade(key: string): boolean {
    using store = OwnFolder.make(this.directory, STORE_RULES);
    if (!isKey(key) || this.isUsed(key)) return false;
    return removeEntry(store, key);
  }

  /** Path of a file in the store, which `make` writes the first time: an archive of the caller's that stays the same image. */
  keepFile(name: string, make: (path: string) => void): string {
    using store = OwnFolder.make(this.directory, STORE_RULES);
    if (store.stats(name)?.isFile() !== true) {
      const unfinished = unfinishedName(store);
      try {
        make(join(this.directory, unfinished));
        showEntry(store, unfinished, name);
      } finally {
        discard(store, unfinished);
      }
    }
    return join(this.directory, name);
  }

  /** Opens an image of podman's or docker's store. It is copied each time, since its name may mean another, and unpacked once. */
  async #openCopy(text: string, signal: AbortSignal | undefined): Promise<Image> {
    using store = OwnFolder.make(this.directory, STORE_RULES);
    const unfinished = unfinishedName(store);
    try {
      store.makeFolder(unfinished);
      await copyFromLocalStore(text, join(this.directory, unfinished, ARCHIVE));
      const image = await this.open(join(this.directory, unfinished, ARCHIVE), { signal });
      const key = `copy-${image.kind === 'layers' ? image.key : ''}`;
      showPart(store, unfinished, key, ARCHIVE);
      prune(store, key);
      return await this.open(join(this.directory, key, ARCHIVE), { signal });
    } finally {
      discard(store, unfinished);
    }
  }

  /** File of what an archive of an image is when it is not compressed; made the first time. */
  async #uncompressed(archive: Blob, signal: AbortSignal | undefined): Promise<string> {
    const folder = await this.#made(keyOfFile('plain', archive), ARCHIVE, async (making) => {
      await writeUncompressed(archive, making, PLAIN, signal);
    });
    return join(folder, PLAIN);
  }

  /** Directory in the folder of a key, which `make` makes the first time. */
  async #made(key: string, part: string, make: (directory: string) => Promise<void>): Promise<string> {
    const directory = join(this.directory, key, part);
    using store = OwnFolder.make(this.directory, STORE_RULES);
    if (isMade(store, key, part)) {
      store.touch(key);
      return directory;
    }
    const unfinished = unfinishedName(store);
    try {
      await make(join(this.directory, unfinished, part));
      showPart(store, unfinished, key, part);
    } finally {
      discard(store, unfinished);
    }
    prune(store, key);
    return directory;
  }
}

/** Error of an archive that was read only once: the file that it was written to is gone by then. */
function ofStream(error: unknown, path: string): unknown {
  if (!(error instanceof TsvmError) || !`${error.message}${error.hint}`.includes(path)) return error;
  const hint = error.hint?.includes(path) ? 'give it as a file' : error.hint;
  return new TsvmError(error.code, error.message.replaceAll(path, 'standard input'), { hint, cause: error });
}

function isMade(store: OwnFolder, key: string, part: string): boolean {
  using folder = store.folder(key);
  return folder?.stats(part)?.isDirectory() === true;
}

/** Shows a finished part of an image. Another process that made the same meanwhile was first: its part is as good. */
function showPart(store: OwnFolder, unfinished: string, key: string, part: string): void {
  store.makeFolder(key);
  using folder = store.folder(key);
  if (folder === undefined) throw imageError(`${key}: the image was removed from ${store.path}`);
  try {
    renameSync(join(store.at(unfinished), part), folder.at(part));
  } catch (error) {
    if (folder.stats(part) === undefined) throw error;
  }
}

/** Tells folders of what was made of images from those of blobs and names. */
const isKey = (name: string): boolean => name.includes('-') && !name.startsWith('.');

/** Removes what was used longest ago and is not in use, of what was made of images. */
function prune(store: OwnFolder, newest: string): void {
  const kept = store
    .names()
    .filter((name) => isKey(name) && name !== newest)
    .map((name) => ({ name, usedMs: store.stats(name)?.mtimeMs ?? 0 }))
    .sort((a, b) => b.usedMs - a.usedMs);
  for (const { name } of kept.slice(MAX_KEPT - 1))
    if (processesUsing(join(store.path, name)).length === 0) discard(store, name);
}
