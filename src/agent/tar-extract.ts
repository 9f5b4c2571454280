/**
 * Archives from an agent into a folder of the host's. What is in them is a guest's: no part of a name leads out of the folder, or through a
 * link, whoever made that; there are no devices, pipes or setuid programs; and all belongs to who unpacks it.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { isErrnoError, TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import type { Limits } from '../image/tar/limits.js';
import { readTar, type TarEntry } from '../image/tar/reader.js';
import type { Abortable } from '../util/abort.js';
import { partsOf, refused } from './tar-unpack.js';

/** How an archive is unpacked. */
export interface ExtractOptions extends Abortable {
  /** Most bytes of all files together. Default: as many as the disk has. */
  readonly maxBytes?: number;
  /** Most entries. Default: 10,000,000 */
  readonly maxEntries?: number;
  /** Give files the owners of the archive. Default: all belongs to the user of this process. */
  readonly owners?: boolean;
}

/** What was unpacked. */
export interface Extracted {
  readonly entries: number;
  /** Bytes of files, holes included. */
  readonly bytes: number;
  /** Devices and pipes, which are not made. */
  readonly leftOut: number;
}

const MAX_ENTRIES = 10_000_000;
const MAX_HEADER_BYTES = 4 * 2 ** 30;
const FOLDER_MODE = 0o755;
/** Permissions of what is not finished. */
const PRIVATE_MODE = 0o600;
/** Of an archive's modes: nothing that gives a program another's rights. */
const PERMISSIONS = 0o777;
const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

/**
 * Unpacks an archive into a folder that is there.
 *
 * @throws TsvmError `TSVM_FILE` for a name that leads out of the folder or through a link, and for what cannot be written; `TSVM_IMAGE` for
 * what is no archive, or has more than it may
 */
export async function extractTar(
  archive: AsyncIterable<Uint8Array>,
  folder: string,
  options: ExtractOptions = {},
): Promise<Extracted> {
  const { maxBytes = Number.MAX_SAFE_INTEGER, maxEntries = MAX_ENTRIES, owners = false, signal } = options;
  const limits: Limits = { entries: maxEntries, bytes: maxBytes, headerBytes: MAX_HEADER_BYTES };
  let name = '';
  try {
    using extractor = new Extractor(folder, owners);
    for await (const entry of readTar(archive, limits)) {
      signal?.throwIfAborted();
      name = entry.name;
      await extractor.put(entry);
    }
    name = '';
    extractor.finish();
    return {
      entries: maxEntries - limits.entries,
      bytes: maxBytes - limits.bytes,
      leftOut: extractor.leftOut,
    };
  } catch (cause) {
    if (!isErrnoError(cause)) throw cause;
    if (name !== '') throw refused(name, describeFileError(cause));
    throw new TsvmError('TSVM_FILE', `${folder}: ${describeFileError(cause)}`, { cause });
  }
}

class Extractor implements Disposable {
  leftOut = 0;
  readonly #root: number;
  readonly #owners: boolean;
  /** Folder that was entered last: the next entry is mostly in it, too. */
  #last: { readonly path: string; readonly fd: number } | undefined;
  /** Folders of the archive, finished at the end, since what is put in one changes its time, and its mode may forbid it. */
  readonly #folders = new Map<string, TarEntry>();

  constructor(folder: string, owners: boolean) {
    this.#root = openSync(folder, O_RDONLY | O_DIRECTORY);
    this.#owners = owners;
  }

  async put(entry: TarEntry): Promise<void> {
    const parts = partsOf(entry.name);
    const base = parts.pop();
    if (base === undefined) {
      if (entry.kind !== 'directory') throw refused(entry.name, 'the folder itself would be no folder');
      return;
    }
    const above = this.#enter(parts, entry.name);
    const path = below(above, base);
    switch (entry.kind) {
      case 'directory':
        makeFolder(path, entry.name);
        this.#folders.set([...parts, base].join('/'), entry);
        return;
      case 'file':
        return await this.#writeFile(path, entry);
      case 'link':
        removeName(path);
        symlinkSync(Buffer.from(entry.link, 'latin1'), path);
        if (this.#owners) lchownSync(path, entry.uid, entry.gid);
        lutimesSync(path, secondsOf(entry), secondsOf(entry));
        return;
      case 'hard-link':
        return this.#link(path, entry);
      default:
        this.leftOut++;
    }
  }

  /** Gives folders what they have: those within others first. */
  finish(): void {
    for (const [name, entry] of [...this.#folders].reverse()) {
      const fd = this.#enter(name.split('/'), entry.name);
      this.#own(fd, entry);
    }
  }

  [Symbol.dispose](): void {
    if (this.#last !== undefined) closeSync(this.#last.fd);
    closeSync(this.#root);
  }

  async #writeFile(path: Buffer, entry: TarEntry): Promise<void> {
    removeName(path);
    const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, PRIVATE_MODE);
    try {
      for await (const { offset, bytes } of entry.data()) {
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
      }
      ftruncateSync(fd, entry.sizeBytes);
      this.#own(fd, entry);
    } finally {
      closeSync(fd);
    }
  }

  #link(path: Buffer, entry: TarEntry): void {
    const parts = partsOf(entry.link);
    const base = parts.pop();
    if (base === undefined) throw refused(entry.name, 'it would be a link to the folder itself');
    // The folder of the name is closed by the way to the target.
    const from = openSync(path.subarray(0, path.lastIndexOf(SLASH)), O_RDONLY | O_DIRECTORY);
    try {
      const target = below(this.#enter(parts, entry.name), base);
      if (!lstatSync(target).isFile()) throw refused(entry.name, 'it would be a link to what is no file');
      const name = below(from, path.subarray(path.lastIndexOf(SLASH) + 1).toString('latin1'));
      removeName(name);
      linkSync(target, name);
    } finally {
      closeSync(from);
    }
  }

  #own(fd: number, entry: TarEntry): void {
    if (this.#owners) fchownSync(fd, entry.uid, entry.gid);
    fchmodSync(fd, entry.mode & PERMISSIONS);
    futimesSync(fd, secondsOf(entry), secondsOf(entry));
  }

  /** Enters a folder below the root, one name after the other, and makes what is missing. No link is followed. */
  #enter(parts: readonly string[], name: string): number {
    if (parts.length === 0) return this.#root;
    const path = parts.join('/');
    if (this.#last?.path === path) return this.#last.fd;
    let fd = this.#root;
    for (const part of parts) {
      const next = enterOne(fd, part, name, this.#root);
      if (fd !== this.#root) closeSync(fd);
      fd = next;
    }
    if (this.#last !== undefined) closeSync(this.#last.fd);
    this.#last = { path, fd };
    return fd;
  }
}

function enterOne(fd: number, part: string, name: string, root: number): number {
  const path = below(fd, part);
  try {
    makeFolder(path, name);
    const next = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fstatSync(next).isDirectory()) return next;
    closeSync(next);
    throw refused(name, 'a part of its path is not a directory');
  } catch (error) {
    if (fd !== root) closeSync(fd);
    throw error;
  }
}

/** Makes a folder, if none is there. @throws TsvmError if something else has its name */
function makeFolder(path: Buffer, name: string): void {
  try {
    mkdirSync(path, FOLDER_MODE);
  } catch (error) {
    if (!(isErrnoError(error) && error.code === 'EEXIST')) throw error;
    const found = lstatSync(path);
    if (found.isSymbolicLink()) throw refused(name, 'a part of its path is a symbolic link');
    if (!found.isDirectory()) throw refused(name, 'a part of its path is not a directory');
  }
}

/** Removes what has a name: a file, a link, or an empty folder. */
function removeName(path: Buffer): void {
  try {
    if (lstatSync(path).isDirectory()) rmdirSync(path);
    else unlinkSync(path);
  } catch (error) {
    if (!(isErrnoError(error) && error.code === 'ENOENT')) throw error;
  }
}

/** Name in an open folder, whatever has its path by now. A character of `part` is a byte. */
function below(fd: number, part: string): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), Buffer.from(part, 'latin1')]);
}

const SLASH = 0x2f;
const secondsOf = ({ mtime }: TarEntry): number => mtime.seconds + mtime.nanoseconds / 1e9;
