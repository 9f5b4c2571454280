/** A file or pipe of the operator's to which the API appends: its log, metrics, what the serial console says. */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { describeFileError } from '../host/files.js';
import { Backlog } from '../util/backlog.js';
import { ApiError } from './api-error.js';

/** Limit of bytes that wait for a slow disk. More are lost, since neither the guest nor the API waits. */
const MAX_PENDING_BYTES = 4 << 20;
/** Flags of every log. O_NONBLOCK is for pipes: a thread that waits for somebody to read is lost to every machine of the process. */
const FLAGS = constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;
const NEWLINE = Buffer.from('\n');

export class LogFile {
  readonly path: string;
  /** Bytes that could not be written: the disk is full or too slow, or the pipe is full. */
  lostBytes = 0;
  #opening: Promise<FileHandle> | undefined;
  readonly #pending = new Backlog(MAX_PENDING_BYTES);
  /** Bytes that the disk has been given and has not taken yet. */
  #underWayBytes = 0;
  #writing: Promise<void> | undefined;
  /** Something was lost in the middle of a line: the next begins on a new one. */
  #isCut = false;
  #closed = false;

  constructor(path: string) {
    this.path = path;
  }

  /** Opens it now instead of at the first write, and keeps it open. @throws ApiError */
  async open(): Promise<void> {
    this.#opening ??= openLog(this.path);
    try {
      await this.#opening;
    } catch (cause) {
      this.#opening = undefined;
      throw new ApiError(`${this.path} cannot be written: ${describeFileError(cause)}`);
    }
  }

  /** Appends, in the order of the calls and in its own time. */
  write(data: Uint8Array | string): void {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    const full = this.#underWayBytes + this.#pending.length + bytes.length > MAX_PENDING_BYTES;
    if (this.#closed || full || !this.#pending.push(bytes)) {
      this.lostBytes += bytes.length;
      return;
    }
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Resolves when all that was given is written, or lost. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.settled();
    const file = await this.#opening?.catch(() => undefined);
    this.#opening = undefined;
    await file?.close();
  }

  async #writeAll(): Promise<void> {
    while (this.#pending.length > 0) {
      const bytes = this.#pending.take();
      this.#underWayBytes = bytes.length;
      let done = 0;
      try {
        await this.open();
        const file = await this.#opening;
        if (file !== undefined && this.#isCut) await file.write(NEWLINE);
        this.#isCut = false;
        while (file !== undefined && done < bytes.length)
          done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
      } catch {
        this.lostBytes += bytes.length - done; // the machine goes on
        this.#isCut ||= done > 0;
      }
      this.#underWayBytes = 0;
    }
  }
}

/** The files of one machine's API, by what they are for. */
export type LogRole = 'log' | 'metrics' | 'serial';

/**
 * Opens it. A pipe both ways, as Firecracker does, which works where it has no reader yet, or never will: what is written waits in it, until it
 * is full. A file only to write, since no more of it may be this user's.
 */
async function openLog(path: string): Promise<FileHandle> {
  const isPipe = (await stat(path).catch(() => undefined))?.isFIFO() === true;
  return await open(path, FLAGS | (isPipe ? constants.O_RDWR : constants.O_WRONLY));
}

export class LogFiles {
  readonly #files = new Map<LogRole, LogFile>();

  /** The file for `role`, which takes the place of one at another path. */
  at(role: LogRole, path: string): LogFile {
    const known = this.#files.get(role);
    if (known?.path === path) return known;
    known?.close().catch(() => {}); // of what was to be written there, that is lost
    const file = new LogFile(path);
    this.#files.set(role, file);
    return file;
  }

  /** Bytes that could not be written, by what they were for. */
  get lostBytes(): Partial<Record<LogRole, number>> {
    return Object.fromEntries([...this.#files].map(([role, { lostBytes }]) => [role, lostBytes]));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.close()));
  }
}
