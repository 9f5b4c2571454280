/**
 * System calls in a shared folder: each is made on a thread of the share's own, for one user of the guest, and by descriptors.
 *
 * A descriptor is closed when its last call has ended: its number is never another file's while somebody has it.
 */
import { type FileAttributes, type FileOwner, fileError } from '../../devices/backends/file-system.js';
import type { NativeAddon, NativeFolderIo } from '../../native/binding.js';
import { S_IFMT } from '../../util/file-mode.js';
import { nanosecondsOf, timespecOf } from '../../util/timespec.js';
import { IoCalls } from '../io-calls.js';

/** Threads of a share, as many as libuv's pool has: a folder that hangs keeps so many, and no other's. They end when it rests. */
const THREADS = 4;
/** Words of 64 bits for what one call found, as kvm-addon/src/folder_descriptors.h has them. */
const WORDS = 19;
const STATFS_WORDS = 6;
/** <bits/stat.h>, of utimensat(2). */
const UTIME_NOW = 0x3fff_ffffn;
const UTIME_OMIT = 0x3fff_fffen;

/** Facts about a file, and by which it is known again. */
export class FolderFacts {
  readonly words: BigInt64Array;

  constructor(words: BigInt64Array = new BigInt64Array(WORDS)) {
    this.words = words;
  }

  #number(at: number): number {
    return Number(this.words[at]);
  }

  /** Says whether the call found anything. */
  get isThere(): boolean {
    return this.words[2] !== 0n;
  }

  /** Device and inode number, which no two files have at a time. */
  get key(): string {
    return `${this.words[0]}:${this.words[1]}`;
  }

  get type(): number {
    return this.#number(2) & S_IFMT;
  }

  /** Time of birth; 0 if its file system does not know. An inode number that is used again has another. */
  get bornNs(): bigint {
    return this.#time(16);
  }

  #time(at: number): bigint {
    return nanosecondsOf(this.words[at] as bigint, this.words[at + 1] as bigint);
  }

  get nlink(): number {
    return this.#number(3);
  }

  /** Descriptor that the call holds besides what it returned; -1 for none. */
  get descriptor(): number {
    return this.#number(18);
  }

  get attributes(): FileAttributes {
    return {
      ino: BigInt.asUintN(64, this.words[1] as bigint),
      sizeBytes: this.#number(7),
      blocks: this.#number(8),
      mode: this.#number(2),
      nlink: this.nlink,
      uid: this.#number(4),
      gid: this.#number(5),
      rdev: this.#number(6) % 0x1_0000_0000,
      blockBytes: this.#number(9),
      atimeNs: this.#time(10),
      mtimeNs: this.#time(12),
      ctimeNs: this.#time(14),
    };
  }
}

/** Facts about each of so many files, in one array for the addon. */
export function manyFacts(count: number): { words: BigInt64Array; at(index: number): FolderFacts } {
  const words = new BigInt64Array(count * WORDS);
  return {
    words,
    at: (index) => new FolderFacts(words.subarray(index * WORDS, (index + 1) * WORDS)),
  };
}

/** Changes that setAttributes() makes, with times as the kernel takes them. */
export interface Changes {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly sizeBytes?: number | undefined;
  readonly atimeNs?: bigint | 'now' | undefined;
  readonly mtimeNs?: bigint | 'now' | undefined;
}

export class Descriptor {
  readonly #io: FolderIo;
  readonly #fd: number;
  #users = 0;
  #closed = false;

  constructor(io: FolderIo, fd: number) {
    this.#io = io;
    this.#fd = fd;
  }

  /** Calls `action` with the number, which is this file's until it has ended. Rejects with EBADF after close(). */
  async use<T>(action: (fd: number) => Promise<T>): Promise<T> {
    if (this.#closed) throw fileError('EBADF');
    this.#users++;
    try {
      return await action(this.#fd);
    } finally {
      if (--this.#users === 0 && this.#closed) this.#io.closeFd(this.#fd);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#users === 0) this.#io.closeFd(this.#fd);
  }
}

/** Calls of the addon's that a share makes. */
export type FolderCalls = Pick<NativeAddon, 'openFolderIo'>;

export class FolderIo {
  readonly #native: NativeFolderIo;
  readonly #calls = new IoCalls();
  readonly #closing = new Set<Promise<unknown>>();
  #letGoSome: () => boolean = () => false;

  constructor(addon: FolderCalls) {
    this.#native = addon.openFolderIo(THREADS, (results) => this.#calls.done(results));
  }

  /**
   * Makes a call for a user of the guest. If there is no descriptor for what it opens, some that the share can do without are closed, and
   * it is made once more: a call that fails so has made nothing.
   */
  async call<Name extends keyof CallsForUser>(
    name: Name,
    user: FileOwner,
    ...args: CallsForUser[Name]
  ): Promise<number> {
    const forUser = [user.uid, user.gid, ...args];
    try {
      return await this.#submit(name, forUser);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== 'EMFILE' && code !== 'ENFILE') || !this.#letGoSome()) throw error;
      await Promise.all(this.#closing);
      return await this.#submit(name, forUser);
    }
  }

  /** Makes a call on what is open, for which nobody's rights count. */
  callOpen<Name extends keyof CallsOnOpen>(name: Name, ...args: CallsOnOpen[Name]): Promise<number> {
    return this.#submit(name, args);
  }

  #submit(name: UserCall | OpenCall, args: readonly unknown[]): Promise<number> {
    const native = this.#native as Record<typeof name, (id: number, ...all: never[]) => void>;
    return this.#calls.wait(name, args, (id) => native[name](id, ...(args as never[])));
  }

  /** @param letGoSome closes descriptors that can be opened again; false if there are none. */
  whenFull(letGoSome: () => boolean): void {
    this.#letGoSome = letGoSome;
  }

  read(fd: number, buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#calls.read(
      buffers,
      () => this.#native.tryRead(fd, buffers, offset),
      () => this.callOpen('read', fd, buffers, offset),
    );
  }

  async setAttributes(
    user: FileOwner,
    fd: number,
    file: number,
    changes: Changes,
    facts: FolderFacts,
  ): Promise<void> {
    await this.call('setAttributes', user, fd, file, changesOf(changes), facts.words);
  }

  async statfs(fd: number): Promise<number[]> {
    const facts = new BigInt64Array(STATFS_WORDS);
    await this.callOpen('statFs', fd, facts);
    return [...facts].map(Number);
  }

  /** Closes it in the background: the last descriptor of a large file that was unlinked takes its time. */
  closeFd(fd: number): void {
    const closing = this.callOpen('closeDescriptor', fd)
      .catch(() => {}) // ENOSPC and the like were told by fsync, if anybody asked
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** Waits for what is being closed, then ends the threads. Nothing else may be in flight. */
  async close(): Promise<void> {
    while (this.#closing.size > 0) await Promise.all(this.#closing);
    this.#native.close();
  }
}

function changesOf({ mode, uid, gid, sizeBytes, atimeNs, mtimeNs }: Changes): BigInt64Array {
  const given = (bit: number, ...values: unknown[]): number =>
    values.some((value) => value !== undefined) ? bit : 0;
  const which = given(1, uid, gid) | given(2, mode) | given(4, sizeBytes) | given(8, atimeNs, mtimeNs);
  const numbers = [which, mode ?? 0, uid ?? -1, gid ?? -1, sizeBytes ?? 0].map(BigInt);
  return BigInt64Array.from([...numbers, ...timeOf(atimeNs), ...timeOf(mtimeNs)]);
}

/** Seconds and nanoseconds. */
function timeOf(time: bigint | 'now' | undefined): [bigint, bigint] {
  if (time === undefined) return [0n, UTIME_OMIT];
  if (time === 'now') return [0n, UTIME_NOW];
  return timespecOf(time);
}

/** A system call's arguments after those that say for whom. */
type Rest<Method, Skipped extends unknown[]> = Method extends (...args: [...Skipped, ...infer Args]) => void
  ? Args
  : never;
type ForUser = [id: number, uid: number, gid: number];
type UserCall =
  | 'lookup'
  | 'create'
  | 'createUnnamed'
  | 'makeNode'
  | 'makeFolder'
  | 'symlink'
  | 'link'
  | 'unlink'
  | 'rename'
  | 'setAttributes'
  | 'readLink'
  | 'openFile'
  | 'openFolder'
  | 'list'
  | 'getXattr'
  | 'setXattr'
  | 'listXattr'
  | 'removeXattr';
type OpenCall =
  | 'openRoot'
  | 'stat'
  | 'read'
  | 'write'
  | 'sync'
  | 'allocate'
  | 'seek'
  | 'copy'
  | 'statFs'
  | 'closeDescriptor';
type CallsForUser = { [Name in UserCall]: Rest<NativeFolderIo[Name], ForUser> };
type CallsOnOpen = { [Name in OpenCall]: Rest<NativeFolderIo[Name], [id: number]> };
