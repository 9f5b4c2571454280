/** Reading the operator's files, with errors that name them. */
import { constants, createReadStream, mkdirSync, type Stats, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isErrnoError, TsvmError, type TsvmErrorCode } from '../errors.js';
import { formatBytes } from '../util/units.js';

/** What went wrong with a file, in words. */
export function describeFileError(cause: unknown): string {
  switch (isErrnoError(cause) ? cause.code : undefined) {
    case 'ENOENT':
      return 'no such file';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a directory';
    case 'ENOTDIR':
      return 'a part of the path is not a directory';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'no space left on the device';
    case 'EROFS':
      return 'the file system is read-only';
    case 'ELOOP':
      return 'too many symbolic links';
    default:
      return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Errors that say nothing of a file: this process or host has no more descriptors or memory, the disk fails. */
const OF_THE_MOMENT: readonly string[] = ['EMFILE', 'ENFILE', 'ENOMEM', 'EIO'];

/** Whether an error says nothing of the file that it was met with. */
export function isOfTheMoment(error: unknown): boolean {
  const cause = error instanceof TsvmError ? error.cause : error;
  return isErrnoError(cause) && OF_THE_MOMENT.includes(cause.code);
}

/**
 * Makes a folder for this user alone, with those above it. Node's own way (`recursive`) never ends where the kernel says that there is no
 * such file although the folder above is there: in /proc.
 *
 * @returns whether it was not there before
 * @throws an error with the code EEXIST if there is something else
 */
export function makeFolders(path: string): boolean {
  if (isFolder(path)) return false;
  try {
    makeFolders(dirname(path));
  } catch (error) {
    // A file is there: the call for what is below it says so.
    if (!(isErrnoError(error) && error.code === 'EEXIST')) throw error;
  }
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if (!isFolder(path)) throw error;
    return false; // another process was quicker
  }
}

function isFolder(path: string): boolean {
  return factsAt(path)?.isDirectory() === true;
}

/** Facts of what a path leads to; undefined if that is nothing, also below a file (for which Node 20 throws, and later ones do not). */
export function factsAt(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (isErrnoError(error) && error.code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** <asm-generic/fcntl.h>: a descriptor of a name that reads and writes nothing, and neither wakes a device nor waits for a FIFO. */
export const O_PATH = 0o10_000_000;

/**
 * Opens a file that `check` does not refuse. It is looked at before it is opened, and not by its name again: opening a FIFO waits for
 * its other end on a thread that all machines of the process need, and opening a device may be an order to it (a watchdog starts).
 *
 * @param check - throws for what is not to be opened
 */
export async function openChecked(
  path: string,
  flags: number,
  check: (stats: Stats) => void,
): Promise<FileHandle> {
  const place = await open(path, O_PATH);
  try {
    check(await place.stat());
    return await open(`/proc/self/fd/${place.fd}`, flags);
  } finally {
    await place.close();
  }
}

export interface InputOptions {
  readonly code: TsvmErrorCode;
  readonly maxBytes: number;
  readonly hint?: string;
}

type ReadError = (problem: string, cause?: unknown) => TsvmError;

/** Makes errors that name the file and its role. */
function readErrors(what: string, path: string, { code, hint = 'check the path' }: InputOptions): ReadError {
  return (problem, cause) => new TsvmError(code, `cannot read ${what} ${path}: ${problem}`, { hint, cause });
}

/** A file of the operator's, open; every error names it. */
export class InputFile {
  /** As it was when it was opened. */
  readonly length: number;
  readonly #file: FileHandle;
  readonly #error: ReadError;

  private constructor(file: FileHandle, length: number, error: ReadError) {
    this.#file = file;
    this.length = length;
    this.#error = error;
  }

  /** Opens a regular file of at most `maxBytes`. `what` names its role: `kernel`, `initramfs`. */
  static async open(what: string, path: string, options: InputOptions): Promise<InputFile> {
    const error = readErrors(what, path, options);
    let file: FileHandle | undefined;
    try {
      file = await openChecked(path, constants.O_RDONLY, (stats) => {
        if (stats.isDirectory()) throw error('it is a directory');
        if (!stats.isFile()) throw error('not a regular file');
      });
      const stat = await file.stat();
      if (stat.size > options.maxBytes) {
        throw new TsvmError(
          options.code,
          `${what} ${path} is too large: ${formatBytes(stat.size)}, at most ${formatBytes(options.maxBytes)}`,
          { hint: 'is it the right file?' },
        );
      }
      return new InputFile(file, stat.size, error);
    } catch (cause) {
      await file?.close();
      throw cause instanceof TsvmError ? cause : error(describeFileError(cause), cause);
    }
  }

  /** A copy of what is there; a range that reaches beyond the end is cut there. */
  async slice(offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(length, this.length - offset)));
    await this.copyTo(bytes, offset);
    return bytes;
  }

  /** Fills all of `target`, in one go: readFile() takes 512 KiB at a time, and twice the time. */
  async copyTo(target: Uint8Array, offset: number): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const { bytesRead } = await this.#file
        .read(target, at, target.length - at, offset + at)
        .catch((cause) => {
          throw this.#error(describeFileError(cause), cause);
        });
      if (bytesRead === 0) throw this.#error('it became shorter meanwhile');
      at += bytesRead;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Reads a whole regular file of at most `maxBytes`. `what` names its role: `kernel`, `initramfs`. */
export async function readInputFile(what: string, path: string, options: InputOptions): Promise<Uint8Array> {
  const file = await InputFile.open(what, path, options);
  try {
    return await file.slice(0, file.length);
  } finally {
    await file.close();
  }
}

/**
 * Reads a text of at most `maxBytes` from whatever the operator named: a file, or a pipe (`--config-file <(jq ...)`). A device that has
 * no end is read no further than that.
 */
export async function readInputText(what: string, path: string, options: InputOptions): Promise<string> {
  const { maxBytes } = options;
  const error = readErrors(what, path, options);
  const pieces: Buffer[] = [];
  let bytes = 0;
  try {
    // The byte after the last that may be there.
    const stream: AsyncIterable<Buffer> = createReadStream(path, { end: maxBytes });
    for await (const piece of stream) {
      pieces.push(piece);
      bytes += piece.length;
    }
  } catch (cause) {
    throw error(describeFileError(cause), cause);
  }
  if (bytes > maxBytes) throw error(`it is longer than ${formatBytes(maxBytes)}`);
  return Buffer.concat(pieces).toString('utf8');
}
