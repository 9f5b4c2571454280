/** Images: what a machine and a container get their root from. A directory, an archive of a root, or an OCI image layout. */
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  renameSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { TsvmError } from '../errors.js';
import { cacheDirectory } from '../host/cache-directory.js';
import { describeFileError } from '../host/files.js';
import { discard, showEntry, unfinishedName } from '../host/folder-store.js';
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import type { Abortable } from '../util/abort.js';
import { KIB, MIB } from '../util/units.js';
import { Blob } from './blob.js';
import { imageError } from './image-error.js';
import type { ImageConfig } from './oci-layout.js';
import { outputOf } from './program.js';
import { lookAtArchive, unpackArchive, unpackLayers } from './unpack.js';

export interface Image {
  /** A directory with its files. */
  readonly root: string;
  readonly config: ImageConfig;
  /** Name of its content for good; undefined for a directory, which may change. */
  readonly key?: string;
}

/** Images that are kept unpacked; the one used longest ago goes first. */
const MAX_KEPT = 16;
/** The file system of an image, beside its root. */
const EXT4 = 'root.ext4';

/** Rules of the folder of images: programs of one may be setuid, so that nobody else may come to them. */
const RULES: FolderRules = {
  code: 'TSVM_IMAGE',
  what: 'the folder of images',
  hint: 'set TSVM_IMAGE_DIR to a folder of your own',
  secret: true,
};

/** ext4 keeps each file in blocks of its own, and an inode for each. */
const EXT4_BLOCK_BYTES = 4096;
const EXT4_INODE_BYTES = 256;
/** Inodes that it has for itself. */
const EXT4_SPARE_INODES = 64;
/** Its own structures: they grow with it, from some least size. */
const EXT4_SPARE_BYTES = 8 * MIB;
const EXT4_SPARE_RATIO = 1.05;

/** Unpacked images, by what they were made from. */
export class ImageStore {
  readonly directory: string;

  /** Default: $TSVM_IMAGE_DIR, or tsvm/images in $XDG_CACHE_HOME or ~/.cache. */
  constructor(directory = cacheDirectory('TSVM_IMAGE_DIR', 'images')) {
    this.directory = directory;
  }

  /** Reads an image's configuration, before anything is made of the image. @throws TsvmError `TSVM_IMAGE` as {@link open}. */
  async look(text: string): Promise<ImageConfig> {
    const { path, tag, stats } = find(text);
    if (stats.isDirectory()) return isOciLayout(path) ? (await readLayout(path, tag)).config : {};
    await using archive = await Blob.open(path);
    await lookAtArchive(archive);
    return {};
  }

  /**
   * Opens an image; an archive or a layout is unpacked the first time.
   *
   * @param text - a directory, an archive, a layout, or `LAYOUT:TAG`
   * @param onUnpack - called when that begins, which may take a while
   * @throws TsvmError `TSVM_IMAGE`
   */
  async open(text: string, onUnpack: () => void = () => {}, { signal }: Abortable = {}): Promise<Image> {
    signal?.throwIfAborted();
    const { path, tag, stats } = find(text);
    if (stats.isDirectory() && !isOciLayout(path)) return { root: path, config: {} };
    if (stats.isDirectory()) {
      const { digest, layers, config } = await readLayout(path, tag);
      return await this.#unpacked(digest.replace(':', '-'), config, async (directory) => {
        onUnpack();
        await unpackLayers(layers, directory, undefined, signal);
      });
    }
    await using archive = await Blob.open(path, undefined, signal);
    return await this.#unpacked(keyOf('tar', archive), {}, async (directory) => {
      onUnpack();
      await unpackArchive(archive, directory);
    });
  }

  /**
   * Opens the root of a guest that tsvm builds, for a command on the host's kernel; it is unpacked the first time.
   *
   * @param initramfs - the guest's
   * @throws TsvmError `TSVM_IMAGE`
   */
  async openGuest(
    initramfs: string,
    onUnpack: () => void = () => {},
    { signal }: Abortable = {},
  ): Promise<Image> {
    signal?.throwIfAborted();
    await using archive = await Blob.open(initramfs, undefined, signal);
    return await this.#unpacked(keyOf('guest', archive), {}, async (directory) => {
      onUnpack();
      const { unpackGuest } = await import('./guest-root.js');
      await unpackGuest(archive, directory);
    });
  }

  /** Path of a file in the store, which `make` writes the first time: an archive of the caller's that stays the same image. */
  keepFile(name: string, make: (path: string) => void): string {
    using store = OwnFolder.make(this.directory, RULES);
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

  async #unpacked(
    key: string,
    config: ImageConfig,
    unpack: (directory: string) => Promise<void>,
  ): Promise<Image> {
    const image = { root: join(this.directory, key, 'root'), config, key };
    using store = OwnFolder.make(this.directory, RULES);
    if (store.stats(key)?.isDirectory() === true) {
      store.touch(key);
      return image;
    }
    const unfinished = unfinishedName(store);
    try {
      await unpack(join(this.directory, unfinished, 'root'));
      showEntry(store, unfinished, key);
    } finally {
      discard(store, unfinished);
    }
    prune(store, key);
    return image;
  }

  /**
   * An image's root as a file with ext4 on it, for machines to map; made the first time.
   *
   * @throws TsvmError `TSVM_HOST` if mke2fs is not installed or fails.
   */
  async ext4Of(
    image: Image & { readonly key: string },
    onMake: () => void = () => {},
    { signal }: Abortable = {},
  ): Promise<string> {
    signal?.throwIfAborted();
    const path = join(this.directory, image.key, EXT4);
    using store = OwnFolder.make(this.directory, RULES);
    using folder = store.folder(image.key);
    if (folder === undefined) throw imageError(`${image.key}: the image was removed from ${this.directory}`);
    if (folder.stats(EXT4)?.isFile() === true) return path;
    onMake();
    const unfinished = unfinishedName(store);
    try {
      store.makeFolder(unfinished);
      await makeExt4(image.root, join(this.directory, unfinished, EXT4), signal);
      renameSync(join(store.at(unfinished), EXT4), folder.at(EXT4));
    } finally {
      discard(store, unfinished);
    }
    return path;
  }
}

/** Key of an archive, whose content is as good as known by these facts: reading it would take as long as unpacking it. */
function keyOf(kind: string, { path, stats: { ino, size, mtimeMs, ctimeMs } }: Blob): string {
  const facts = [path, ino, size, mtimeMs, ctimeMs].join('\n');
  return `${kind}-${createHash('sha256').update(facts).digest('hex').slice(0, 32)}`;
}

function prune(store: OwnFolder, newest: string): void {
  const kept = store
    .names()
    .filter((name) => !name.startsWith('.') && name !== newest)
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

async function makeExt4(root: string, path: string, signal: AbortSignal | undefined): Promise<void> {
  const complain = (complaint: string): Error =>
    new TsvmError('TSVM_HOST', `cannot make a file system of ${root}: ${complaint}`);
  // Each file's size: what du tells of a file system is how that one stores it.
  const sizes = (await outputOf(FIND, [root, '-xdev', '-printf', '%s\n'], complain, signal))
    .trim()
    .split('\n')
    .map(Number);
  const inodes = Math.ceil(sizes.length * EXT4_SPARE_RATIO) + EXT4_SPARE_INODES;
  const blocks = sizes.reduce((sum, size) => sum + Math.max(1, Math.ceil(size / EXT4_BLOCK_BYTES)), 0);
  const usedBytes = blocks * EXT4_BLOCK_BYTES + inodes * EXT4_INODE_BYTES;
  const sizeKib = Math.ceil((usedBytes * EXT4_SPARE_RATIO + EXT4_SPARE_BYTES) / KIB);
  writeFileSync(path, '');
  // No journal, nothing is ever written; blocks of a page, so that they can be mapped. Owners are the files'.
  const options = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-b',
    String(EXT4_BLOCK_BYTES),
    '-N',
    String(inodes),
    '-m',
    '0',
    '-O',
    '^has_journal',
    '-d',
    root,
  ];
  await outputOf(MKE2FS, [...options, path, `${sizeKib}k`], complain, signal);
  // It is for fsck, which nobody runs; the image has none.
  await outputOf(DEBUGFS, ['-w', '-R', 'rmdir lost+found', path], complain, signal);
}

export const FIND = { name: 'find', debianPackage: 'findutils' } as const;
export const MKE2FS = { name: 'mke2fs', debianPackage: 'e2fsprogs' } as const;
export const DEBUGFS = { name: 'debugfs', debianPackage: 'e2fsprogs' } as const;
