/**
 * The one way into folders that are ours: those of machines, templates, images, guests and snapshots.
 *
 * Their names can be foreseen, and what lies in them is trusted. So a folder is opened without following a link and looked at by its
 * descriptor, for reading too: it belongs to this user, and nobody else may change what is in it. Whatever is done afterwards begins at
 * that descriptor, and a file in it is opened without following a link.
 */
import assert from 'node:assert';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { isErrnoError, TsvmError, type TsvmErrorCode } from '../errors.js';
import { describeFileError, makeFolders } from './files.js';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } = constants;
/** Write permission of group and others, and all of their permissions. */
const OTHERS_WRITE = 0o022;
const OTHERS_ANY = 0o077;
/** Files are made for this user alone. */
const FILE_MODE = 0o600;

/** Demands on a folder, and on the files in it. */
export interface FolderRules {
  /** Code of the errors. */
  readonly code: TsvmErrorCode;
  /** Role of the folder, for messages: `the folder of machines`. */
  readonly what: string;
  /** Remedy for a folder of somebody else's. */
  readonly hint: string;
  /** Folders of the superuser's serve as well, who could change anything anyway: for what is only read. */
  readonly rootsToo?: boolean;
  /** Nobody else may even enter: there are setuid programs in it. */
  readonly secret?: boolean;
}

/** An open folder that passed the checks. */
export class OwnFolder implements Disposable {
  /** As it was named, for messages. */
  readonly path: string;
  /** For flock(2) and fsync(2). */
  readonly fd: number;
  readonly #rules: FolderRules;

  private constructor(path: string, fd: number, rules: FolderRules) {
    this.path = path;
    this.fd = fd;
    this.#rules = rules;
  }

  /**
   * Opens a folder; undefined if there is none.
   *
   * @throws TsvmError of the rules' code if it is a link, another user's, or open to others.
   */
  static open(path: string, rules: FolderRules): OwnFolder | undefined {
    return OwnFolder.#open(path, path, rules);
  }

  /** Makes a folder that is not there, with those above it, and opens it. @throws TsvmError as {@link OwnFolder.open} */
  static make(path: string, rules: FolderRules): OwnFolder {
    try {
      makeFolders(path);
    } catch (cause) {
      // A link that leads nowhere is there, too, and is refused as one.
      if (!isErrnoError(cause) || cause.code !== 'EEXIST') throw failed('make', path, rules, cause);
    }
    const folder = OwnFolder.open(path, rules);
    if (folder === undefined) {
      throw new TsvmError(rules.code, `${rules.what} ${path}: it was removed again`, { hint: rules.hint });
    }
    return folder;
  }

  static #open(path: string, at: string, rules: FolderRules): OwnFolder | undefined {
    let fd: number;
    try {
      fd = openSync(at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);
    } catch (cause) {
      if (isErrnoError(cause) && cause.code === 'ENOENT') return undefined;
      if (isErrnoError(cause) && (cause.code === 'ENOTDIR' || cause.code === 'ELOOP')) {
        if (!isThere(at)) return undefined; // below something that is no directory
        throw new TsvmError(rules.code, `${rules.what} ${path}: it is a link, or no directory`, {
          hint: rules.hint,
          cause,
        });
      }
      throw failed('open', path, rules, cause);
    }
    try {
      checkTrusted(fstatSync(fd), `${rules.what} ${path}`, path, rules);
      return new OwnFolder(path, fd, rules);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Folder in this one, by the same rules, but that a secret is kept by the outer one; undefined if there is none. */
  folder(name: string): OwnFolder | undefined {
    return OwnFolder.#open(`${this.path}/${name}`, this.at(name), { ...this.#rules, secret: false });
  }

  /**
   * Path of a name in this folder that leads nowhere else while the folder is open. Only its last part can be a link: whoever opens it
   * says O_NOFOLLOW, or made it.
   */
  at(name: string): string {
    assert(isName(name), `not a name: ${name}`);
    return `${this.self}/${name}`;
  }

  /** Path of the folder itself that leads nowhere else while it is open. */
  get self(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  /** Names in the folder. */
  names(): string[] {
    return readdirSync(this.self);
  }

  /** Facts of a name, of a link itself; undefined if there is nothing. */
  stats(name: string): Stats | undefined {
    return lstatSync(this.at(name), { throwIfNoEntry: false });
  }

  /** Makes a folder for this user alone. False: there is something of that name. */
  makeFolder(name: string): boolean {
    try {
      mkdirSync(this.at(name), { mode: 0o700 });
      return true;
    } catch (cause) {
      if (isErrnoError(cause) && cause.code === 'EEXIST') return false;
      throw failed('make', `${this.path}/${name}`, this.#rules, cause);
    }
  }

  /**
   * Reads a whole file; undefined if there is none.
   *
   * @throws TsvmError if it is a link, no regular file, another user's, open to others, or longer than `maxBytes`.
   */
  read(name: string, maxBytes: number): string | undefined {
    let fd: number;
    try {
      // A FIFO is opened at once, to be refused.
      fd = openSync(this.at(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (cause) {
      if (isErrnoError(cause) && cause.code === 'ENOENT') return undefined;
      throw this.#failedAt(name, cause);
    }
    try {
      const stats = fstatSync(fd);
      this.#checkFile(name, stats);
      if (stats.size > maxBytes) throw this.#refused(name, `it is longer than ${maxBytes} bytes`);
      // What is replaced in one step has its size when it is opened.
      const bytes = Buffer.alloc(stats.size);
      let length = 0;
      for (let count = -1; count !== 0; length += count)
        count = readSync(fd, bytes, length, bytes.length - length, null);
      return bytes.toString('utf8', 0, length);
    } finally {
      closeSync(fd);
    }
  }

  /** Opens a file for reading, checked as by {@link OwnFolder.read}; an errno is the caller's to explain. */
  async openFile(name: string): Promise<FileHandle> {
    return await this.#checked(name, await open(this.at(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  }

  /** Makes a file of a name that is not taken, and opens it for reading and writing. */
  async createFile(name: string): Promise<FileHandle> {
    return await open(this.at(name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE);
  }

  /** Opens a file that nothing is written to, and makes it if need be: for flock(2). */
  async openLock(name: string): Promise<FileHandle> {
    const flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
    return await this.#checked(name, await open(this.at(name), flags, FILE_MODE));
  }

  /** Replaces a file in one step; it is read whole or not at all. Throws errnos. */
  write(name: string, text: string): void {
    const unfinished = this.unfinishedName(name);
    const fd = openSync(this.at(unfinished), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE);
    try {
      writeFileSync(fd, text);
      this.rename(unfinished, name);
    } catch (error) {
      this.remove(unfinished);
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  /** Name that nobody can foresee, for what will be renamed to `name`. */
  unfinishedName(name: string): string {
    return `.${name}.${randomBytes(8).toString('hex')}`;
  }

  /** Empties a file. Throws errnos. */
  truncate(name: string): void {
    const fd = openSync(this.at(name), O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      this.#checkFile(name, fstatSync(fd));
      ftruncateSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Renames within the folder. Throws errnos. */
  rename(from: string, to: string): void {
    renameSync(this.at(from), this.at(to));
  }

  /** Gives a file of the folder a name, and takes its other; false: there is something of that name. Throws errnos. */
  renameNew(from: string, to: string): boolean {
    try {
      linkSync(this.at(from), this.at(to));
    } catch (error) {
      if (isErrnoError(error) && error.code === 'EEXIST') return false;
      throw error;
    }
    unlinkSync(this.at(from));
    return true;
  }

  /** Marks a folder in this one as used now. Throws errnos. */
  touch(name: string): void {
    utimesSync(this.at(name), new Date(), new Date());
  }

  /** Removes a file, or a folder with all in it; a link itself, never what it leads to. Throws errnos. */
  remove(name: string): void {
    const path = this.at(name);
    const options = { recursive: true, force: true };
    try {
      rmSync(path, options);
    } catch (error) {
      if (!isErrnoError(error) || error.code !== 'EACCES') throw error;
      makeRemovable(path);
      rmSync(path, options);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }

  async #checked(name: string, file: FileHandle): Promise<FileHandle> {
    try {
      this.#checkFile(name, await file.stat());
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  #checkFile(name: string, stats: Stats): void {
    if (!stats.isFile()) throw this.#refused(name, 'it is not a file');
    const path = `${this.path}/${name}`;
    // Whoever may not enter the folder comes to no file in it.
    checkTrusted(stats, path, path, { ...this.#rules, secret: false });
  }

  #failedAt(name: string, cause: unknown): TsvmError {
    return failed('open', `${this.path}/${name}`, this.#rules, cause);
  }

  #refused(name: string, why: string): TsvmError {
    return new TsvmError(this.#rules.code, `${this.path}/${name}: ${why}`, { hint: this.#rules.hint });
  }
}

/** Tells whether a text names something in a folder, and nothing elsewhere. */
export function isName(text: string): boolean {
  return text !== '' && text !== '.' && text !== '..' && !/[/\0]/.test(text);
}

/** Opens folders to their owner, as whose mode says otherwise: an image may have such ones. */
function makeRemovable(folder: string | Buffer): void {
  chmodSync(folder, 0o700);
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })) {
    if (entry.isDirectory())
      makeRemovable(Buffer.concat([Buffer.from(folder), Buffer.from('/'), entry.name]));
  }
}

/** Whether a path is a folder of this user's, and no link, which nobody else may change. */
export function isOwnFolder(path: string): boolean {
  try {
    const stats = lstatSync(path);
    return stats.isDirectory() && stats.uid === ownUid() && (stats.mode & OTHERS_WRITE) === 0;
  } catch {
    return false; // there is none, or it is out of reach
  }
}

function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

function checkTrusted(stats: Stats, subject: string, path: string, rules: FolderRules): void {
  const { uid, mode } = stats;
  if (uid !== ownUid() && !(rules.rootsToo === true && uid === 0)) {
    throw new TsvmError(rules.code, `${subject} is another user's (uid ${uid})`, { hint: rules.hint });
  }
  if ((mode & OTHERS_WRITE) !== 0) {
    throw new TsvmError(rules.code, `${subject}: others may write there`, { hint: `chmod go-w ${path}` });
  }
  if (rules.secret === true && (mode & OTHERS_ANY) !== 0) {
    throw new TsvmError(rules.code, `${subject}: others may enter it`, { hint: `chmod 700 ${path}` });
  }
}

function failed(what: string, path: string, rules: FolderRules, cause: unknown): TsvmError {
  return new TsvmError(rules.code, `cannot ${what} ${path}: ${describeFileError(cause)}`, {
    hint: rules.hint,
    cause,
  });
}

const ownUid = (): number => process.geteuid?.() ?? 0;
