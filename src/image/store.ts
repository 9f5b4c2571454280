/** Store of images: what was made of them for containers and machines, by their content. */
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readdirSync, renameSync, type Stats, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import { discard, showEntry, unfinishedName } from '../host/folder-store.js';
import { OwnFolder } from '../host/own-folder.js';
import { Blob, identityOf } from './blob.js';
import type { DirectoryImage, Image, LayeredImage } from './image.js';
import { imageError } from './image-error.js';
import { makeRootFile, ROOT_FILE } from './root-file.js';
import { BLOBS, imageDirectory, STORE_RULES } from './store-folder.js';
import { lookAtArchive, unpackLayers } from './unpack.js';

/** Reports of what may take a while, and is done once for an image. */
export interface MakeProgress {
  /** The image is being unpacked. */
  onUnpack?(): void;
  /** A file system is being made of it. */
  onMake?(): void;
}

/** Images that are kept unpacked; the one used longest ago goes first. */
const MAX_KEPT = 16;
/** Names in the folder of an image: a directory with its files, and one with what machines have of it. */
const ROOT = 'root';
const MACHINE = 'machine';

/** What was made of images, by their content. */
export class ImageStore {
  readonly directory: string;

  /** Default: $TSVM_IMAGE_DIR, or tsvm/images in $XDG_CACHE_HOME or ~/.cache. */
  constructor(directory = imageDirectory()) {
    this.directory = directory;
  }

  /**
   * Opens an image and reads its configuration; nothing is made of it yet.
   *
   * @param text - a directory, an archive, a layout, or `LAYOUT:TAG`
   * @throws TsvmError `TSVM_IMAGE`
   */
  async open(text: string): Promise<Image> {
    const { path, tag, stats } = find(text);
    if (stats.isDirectory()) {
      if (!isOciLayout(path)) return { kind: 'directory', directory: path, config: {} };
      const { digest, layers, config } = await readLayout(path, tag);
      return { kind: 'layers', key: digest.replace(':', '-'), config, layers };
    }
    await using archive = await Blob.open({ path });
    await lookAtArchive(archive);
    const layers = [{ path, identity: identityOf(archive.stats) }];
    return { kind: 'layers', key: keyOf('tar', archive), config: {}, layers };
  }

  /**
   * Opens the root of a guest that tsvm builds, for a command on the host's kernel; it is unpacked the first time.
   *
   * @param initramfs - the guest's
   * @throws TsvmError `TSVM_IMAGE`
   */
  async openGuest(initramfs: string, { onUnpack }: MakeProgress = {}): Promise<DirectoryImage> {
    await using archive = await Blob.open({ path: initramfs });
    const directory = await this.#made(keyOf('guest', archive), ROOT, async (unpacking) => {
      onUnpack?.();
      const { unpackGuest } = await import('./guest-root.js');
      await unpackGuest(archive, unpacking);
    });
    return { kind: 'directory', directory, config: {} };
  }

  /** Directory with an image's files, for containers; layers are unpacked the first time. @throws TsvmError `TSVM_IMAGE` */
  async directoryOf(image: Image, { onUnpack }: MakeProgress = {}): Promise<string> {
    if (image.kind === 'directory') return image.directory;
    return await this.#made(image.key, ROOT, async (unpacking) => {
      onUnpack?.();
      await unpackLayers(image.layers, unpacking);
    });
  }

  /** File with a file system of an image, for machines to map; made the first time. @throws TsvmError `TSVM_IMAGE` */
  async rootFileOf(image: LayeredImage, { onMake }: MakeProgress = {}): Promise<string> {
    const folder = await this.#made(image.key, MACHINE, async (making) => {
      onMake?.();
      await makeRootFile(image, making);
    });
    return join(folder, ROOT_FILE);
  }

  /** Directory whose etc/passwd and etc/group are those of an image of which {@link directoryOf} or {@link rootFileOf} was made. */
  accountsOf(image: Image): string {
    if (image.kind === 'directory') return image.directory;
    using store = OwnFolder.make(this.directory, STORE_RULES);
    return join(this.directory, image.key, isMade(store, image.key, ROOT) ? ROOT : MACHINE);
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

/** Key of an archive, whose content is as good as known by these facts: reading it would take as long as unpacking it. */
function keyOf(kind: string, { path, stats }: Blob): string {
  const hash = createHash('sha256').update([path, identityOf(stats)].join('\0'));
  return `${kind}-${hash.digest('hex').slice(0, 32)}`;
}

function prune(store: OwnFolder, newest: string): void {
  const kept = store
    .names()
    .filter((name) => !name.startsWith('.') && name !== newest && name !== BLOBS)
    .map((name) => ({ name, usedMs: store.stats(name)?.mtimeMs ?? 0 }))
    .sort((a, b) => b.usedMs - a.usedMs);
  for (const { name } of kept.slice(MAX_KEPT - 1)) discard(store, name);
}

async function readLayout(path: string, tag: string | undefined) {
  // Its schemas cost 60 ms to load, which is not for everybody.
  const { readOciLayout } = await import('./oci-layout.js');
  return await readOciLayout(path, tag);
}

function isOciLayout(folder: string): boolean {
  return existsSync(join(folder, 'oci-layout'));
}

/** `PATH` or, for a layout, `PATH:TAG`. */
function find(text: string): { path: string; tag?: string; stats: Stats } {
  const whole = statSync(text, { throwIfNoEntry: false });
  if (whole !== undefined) {
    refuseUnfit(text, whole);
    return { path: resolve(text), stats: whole };
  }
  const colon = text.lastIndexOf(':');
  const folder = colon < 0 ? undefined : statSync(text.slice(0, colon), { throwIfNoEntry: false });
  if (folder?.isDirectory() === true && isOciLayout(text.slice(0, colon))) {
    return { path: resolve(text.slice(0, colon)), tag: text.slice(colon + 1), stats: folder };
  }
  throw imageError(
    `image ${text}: there is no such file or directory`,
    'a directory, an archive of a root, or an OCI layout: skopeo copy docker://debian:12 oci:debian:12',
  );
}

/** Refuses what is no image at all. */
function refuseUnfit(text: string, stats: Stats): void {
  const refused = (why: string): TsvmError =>
    imageError(
      `image ${text}: ${why}`,
      'a directory with the files of a system, an archive of one, or an OCI layout',
    );
  if (!stats.isDirectory() && !stats.isFile()) throw refused('it is neither a directory nor a file');
  try {
    if (stats.isDirectory() && readdirSync(text).length === 0) throw refused('the directory is empty');
    accessSync(text, constants.R_OK);
  } catch (cause) {
    throw cause instanceof TsvmError ? cause : refused(describeFileError(cause));
  }
  if (stats.isFile() && stats.size === 0) throw refused('the file is empty');
}
