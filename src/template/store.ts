/** The folder of templates: found by key, made by one process at a time, bounded in number. */
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { TsvmError } from '../errors.js';
import { cacheDirectory } from '../host/cache-directory.js';
import { BLOCK_BYTES } from '../host/disk/disk-usage.js';
import { describeFileError } from '../host/files.js';
import { removeEntry, sweep } from '../host/folder-store.js';
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import { type Flock, flock, type LockOptions, waitForLock } from '../host/process/file-lock.js';
import { MANIFEST_NAME } from '../snapshot/format.js';

/** Each is some 20 MiB for a guest of 64 MiB. */
const MAX_TEMPLATES = 8;

const KEY = /^[0-9a-f]{16}$/;

const RULES: FolderRules = {
  code: 'TSVM_TEMPLATE',
  what: 'the folder of templates',
  hint: 'set TSVM_TEMPLATE_DIR to a folder of your own, or boot each time: `createMachine()`',
};

export interface TemplateEntry {
  readonly key: string;
  readonly directory: string;
  /** Milliseconds since 1970. */
  readonly lastUsedMs: number;
  /** On disk. */
  readonly bytes: number;
}

/** $TSVM_TEMPLATE_DIR, or $XDG_CACHE_HOME/tsvm/templates, or ~/.cache/tsvm/templates. */
export function templateDirectory(): string {
  return cacheDirectory('TSVM_TEMPLATE_DIR', 'templates');
}

export class TemplateStore {
  readonly directory: string;
  readonly #flock: Flock;

  constructor(directory: string = templateDirectory(), lock: Flock = flock) {
    this.directory = directory;
    this.#flock = lock;
  }

  pathOf(key: string): string {
    return join(this.directory, key);
  }

  has(key: string): boolean {
    using store = this.#open({ rootsToo: true });
    using template = store?.folder(key);
    return template?.stats(MANIFEST_NAME) !== undefined;
  }

  /** Those used last stay longest. */
  used(key: string): void {
    using store = this.#open({ rootsToo: true });
    try {
      store?.touch(key);
    } catch {
      // In a cache that is only read, order does not matter.
    }
  }

  #open(more: Partial<FolderRules> = {}): OwnFolder | undefined {
    return OwnFolder.open(this.directory, { ...RULES, ...more });
  }

  /** Runs `action` while no other process makes the template of that key. Rejects with the reason of `signal`. */
  async locked<T>(key: string, options: LockOptions, action: () => Promise<T>): Promise<T> {
    for (;;) {
      const lock = await this.#openLock(key);
      try {
        await waitForLock(this.#flock, lock.fd, 'exclusive', options);
        // Whoever removed a template removed its lock too: then ours keeps nobody out.
        options.signal?.throwIfAborted();
        if (await this.#isLockOf(lock, key)) return await action();
      } finally {
        await lock.close();
      }
    }
  }

  async #isLockOf(lock: FileHandle, key: string): Promise<boolean> {
    using store = this.#open();
    return store?.stats(lockName(key))?.ino === (await lock.stat()).ino;
  }

  async #openLock(key: string): Promise<FileHandle> {
    try {
      using store = OwnFolder.make(this.directory, RULES);
      return await store.openLock(lockName(key));
    } catch (cause) {
      if (cause instanceof TsvmError && !(cause.cause instanceof Error)) throw cause;
      throw new TsvmError(
        'TSVM_TEMPLATE',
        `cannot keep templates in ${this.directory}: ${describeFileError(cause)}`,
        {
          hint: 'set TSVM_TEMPLATE_DIR to a folder that can be written, or boot each time: `createMachine()`',
          cause,
        },
      );
    }
  }

  /** The last used first. */
  async list(): Promise<TemplateEntry[]> {
    using store = this.#open({ rootsToo: true });
    if (store === undefined) return [];
    const keys = store.names().filter((name) => KEY.test(name));
    const entries = keys.map((key) => this.#entryOf(store, key));
    return entries.filter((entry) => entry !== undefined).sort((a, b) => b.lastUsedMs - a.lastUsedMs);
  }

  /** Undefined if somebody removes it meanwhile. */
  #entryOf(store: OwnFolder, key: string): TemplateEntry | undefined {
    const found = store.stats(key);
    if (found?.isDirectory() !== true) return undefined;
    using template = store.folder(key);
    if (template === undefined) return undefined;
    return { key, directory: this.pathOf(key), lastUsedMs: found.mtimeMs, bytes: bytesOnDisk(template) };
  }

  /** Machines that run from it go on. @throws TsvmError `TSVM_TEMPLATE` if there is none. */
  async remove(key: string): Promise<void> {
    if (KEY.test(key) && (await this.#take(key))) return;
    throw new TsvmError('TSVM_TEMPLATE', `there is no template ${key}`, { hint: 'tsvm template list' });
  }

  /** False if it is not there any more. */
  async #take(key: string): Promise<boolean> {
    using store = this.#open();
    if (store === undefined) return false;
    try {
      if (!removeEntry(store, key, MANIFEST_NAME)) return false;
      await this.#removeLock(store, key);
      return true;
    } catch (error) {
      throw this.#error('remove', error);
    }
  }

  /** Unless somebody has it, who makes the template anew. */
  async #removeLock(store: OwnFolder, key: string): Promise<void> {
    if (store.stats(lockName(key)) === undefined) return;
    const lock = await store.openLock(lockName(key));
    try {
      if (this.#flock(lock.fd, 'exclusive')) store.remove(lockName(key));
    } finally {
      await lock.close();
    }
  }

  #error(what: string, cause: unknown): TsvmError {
    return new TsvmError(
      'TSVM_TEMPLATE',
      `cannot ${what} templates in ${this.directory}: ${describeFileError(cause)}`,
      {
        hint: 'check the permissions of the folder, or set TSVM_TEMPLATE_DIR to another',
        cause,
      },
    );
  }

  /**
   * Removes those that were used longest ago, but `most`, and what a removal that was killed has left. Returns the keys.
   */
  async prune({ keep, most = MAX_TEMPLATES }: { keep?: string; most?: number } = {}): Promise<string[]> {
    using store = this.#open();
    if (store === undefined) return [];
    sweep(store);
    const removed: string[] = [];
    for (const { key } of (await this.list()).slice(most))
      if (key !== keep && (await this.#take(key))) removed.push(key);
    return removed;
  }
}

const lockName = (key: string): string => `${key}.lock`;

function bytesOnDisk(template: OwnFolder): number {
  return template
    .names()
    .reduce((bytes, name) => bytes + (template.stats(name)?.blocks ?? 0) * BLOCK_BYTES, 0);
}
