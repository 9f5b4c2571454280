/** The folder of templates: found by key, made by one process at a time, bounded in number. */
import { existsSync, utimes } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrnoError, TsvmError } from '../errors.js';
import { cacheDirectory } from '../host/cache-directory.js';
import { describeFileError } from '../host/files.js';
import { loadAddon } from '../native/binding.js';
import { MANIFEST_NAME } from '../snapshot/format.js';

/** Each is some 20 MiB for a guest of 64 MiB. */
const MAX_TEMPLATES = 8;
/** How often a process that waits for another one's template looks. */
const LOCK_INTERVAL_MS = 50;

const KEY = /^[0-9a-f]{16}$/;
/** Names begin so of what is being removed. */
const DOOMED = '.removed-';

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

/** As the addon's: false if somebody else has the lock. */
type Flock = (fd: number, mode: 'exclusive') => boolean;

export interface LockOptions {
  /** Called once if another process has the lock. */
  onWait?: (() => void) | undefined;
  /** Gives up waiting. */
  signal?: AbortSignal | undefined;
}

export class TemplateStore {
  readonly directory: string;
  readonly #flock: Flock;

  constructor(
    directory: string = templateDirectory(),
    flock: Flock = (fd, mode) => loadAddon().flock(fd, mode),
  ) {
    this.directory = directory;
    this.#flock = flock;
  }

  pathOf(key: string): string {
    return join(this.directory, key);
  }

  has(key: string): boolean {
    return existsSync(join(this.pathOf(key), MANIFEST_NAME));
  }

  /** Those used last stay longest. */
  used(key: string): void {
    const now = Date.now() / 1000;
    utimes(this.pathOf(key), now, now, () => {}); // in a cache that is only read, order does not matter
  }

  /** Runs `action` while no other process makes the template of that key. Rejects with the reason of `signal`. */
  async locked<T>(key: string, { onWait, signal }: LockOptions, action: () => Promise<T>): Promise<T> {
    let waited = false;
    for (;;) {
      const lock = await this.#openLock(key);
      try {
        while (!this.#flock(lock.fd, 'exclusive')) {
          if (!waited) onWait?.();
          waited = true;
          await sleep(LOCK_INTERVAL_MS);
          signal?.throwIfAborted();
        }
        // Whoever removed a template removed its lock too: then ours keeps nobody out.
        if (await this.#isLockOf(lock, key)) return await action();
      } finally {
        await lock.close();
      }
    }
  }

  #lockPath(key: string): string {
    return join(this.directory, `${key}.lock`);
  }

  async #isLockOf(lock: FileHandle, key: string): Promise<boolean> {
    const named = await stat(this.#lockPath(key)).catch(() => undefined);
    return named?.ino === (await lock.stat()).ino;
  }

  async #openLock(key: string): Promise<FileHandle> {
    try {
      await mkdir(this.directory, { recursive: true, mode: 0o700 });
      return await open(this.#lockPath(key), 'a', 0o600);
    } catch (cause) {
      throw new TsvmError(
        'TSVM_TEMPLATE',
        `cannot keep templates in ${this.directory}: ${describeFileError(cause)}`,
        {
          hint: 'set TSVM_TEMPLATE_DIR to a folder that can be written, or boot each time: --no-template',
          cause,
        },
      );
    }
  }

  /** The last used first. */
  async list(): Promise<TemplateEntry[]> {
    const names = (await readdir(this.directory).catch(() => [])).filter((name) => KEY.test(name));
    const entries = await Promise.all(names.map((key) => this.#entryOf(key)));
    return entries.filter((entry) => entry !== undefined).sort((a, b) => b.lastUsedMs - a.lastUsedMs);
  }

  /** Undefined if somebody removes it meanwhile. */
  async #entryOf(key: string): Promise<TemplateEntry | undefined> {
    const directory = this.pathOf(key);
    try {
      const found = await stat(directory);
      if (!found.isDirectory()) return undefined;
      return { key, directory, lastUsedMs: found.mtimeMs, bytes: await bytesOnDisk(directory) };
    } catch (error) {
      if (isErrnoError(error) && error.code === 'ENOENT') return undefined;
      throw this.#error('look at', error);
    }
  }

  /** Machines that run from it go on. @throws TsvmError `TSVM_TEMPLATE` if there is none. */
  async remove(key: string): Promise<void> {
    if (KEY.test(key) && (await this.#take(key))) return;
    throw new TsvmError('TSVM_TEMPLATE', `there is no template ${key}`, { hint: 'tsvm template list' });
  }

  /** False if it is not there any more. */
  async #take(key: string): Promise<boolean> {
    // Out of sight in one step: nobody restores half a template.
    const doomed = join(this.directory, `${DOOMED}${key}-${process.pid}`);
    try {
      await this.#hide(key, doomed);
      await rm(doomed, { recursive: true, force: true });
      await this.#removeLock(key);
      return true;
    } catch (error) {
      if (isErrnoError(error) && error.code === 'ENOENT') return false;
      throw this.#error('remove', error);
    }
  }

  async #hide(key: string, doomed: string): Promise<void> {
    try {
      await rename(this.pathOf(key), doomed);
    } catch (error) {
      if (!isErrnoError(error) || error.code !== 'EXDEV') throw error;
      // A folder of a lower layer of an overlay, which may not be renamed: without its manifest it is no template.
      await rm(join(this.pathOf(key), MANIFEST_NAME));
      await rm(this.pathOf(key), { recursive: true, force: true });
    }
  }

  /** Unless somebody has it, who makes the template anew. */
  async #removeLock(key: string): Promise<void> {
    const lock = await open(this.#lockPath(key), 'r').catch(() => undefined);
    if (lock === undefined) return;
    try {
      if (this.#flock(lock.fd, 'exclusive')) await rm(this.#lockPath(key), { force: true });
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
    for (const name of await readdir(this.directory).catch(() => []))
      if (name.startsWith(DOOMED)) await rm(join(this.directory, name), { recursive: true, force: true });
    const removed: string[] = [];
    for (const { key } of (await this.list()).slice(most))
      if (key !== keep && (await this.#take(key))) removed.push(key);
    return removed;
  }
}

async function bytesOnDisk(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) bytes += (await stat(join(directory, name))).blocks * 512;
  return bytes;
}
