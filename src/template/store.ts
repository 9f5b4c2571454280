/** The folder of templates: found by key, made by one process at a time, bounded in number. */
import { existsSync, utimes } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import { loadAddon } from '../native/binding.js';
import { MANIFEST_NAME } from '../snapshot/format.js';

/** Each is some 20 MiB for a guest of 64 MiB. */
const MAX_TEMPLATES = 8;
/** How often a process that waits for another one's template looks. */
const LOCK_INTERVAL_MS = 50;

const KEY = /^[0-9a-f]{16}$/;

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
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return process.env['TSVM_TEMPLATE_DIR'] || join(cache, 'tsvm', 'templates');
}

export class TemplateStore {
  readonly directory: string;

  constructor(directory: string = templateDirectory()) {
    this.directory = directory;
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

  /** Runs `action` while no other process makes the template of that key. */
  async locked<T>(key: string, onWait: (() => void) | undefined, action: () => Promise<T>): Promise<T> {
    const lock = await this.#openLock(key);
    try {
      const { flock } = loadAddon();
      for (let waited = false; !flock(lock.fd, 'exclusive'); waited = true) {
        if (!waited) onWait?.();
        await sleep(LOCK_INTERVAL_MS);
      }
      return await action();
    } finally {
      await lock.close();
    }
  }

  async #openLock(key: string): Promise<FileHandle> {
    try {
      await mkdir(this.directory, { recursive: true, mode: 0o700 });
      return await open(join(this.directory, `${key}.lock`), 'a', 0o600);
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
    const entries = await Promise.all(
      names.map(async (key) => {
        const directory = this.pathOf(key);
        const { mtimeMs } = await stat(directory);
        return { key, directory, lastUsedMs: mtimeMs, bytes: await bytesOnDisk(directory) };
      }),
    );
    return entries.sort((a, b) => b.lastUsedMs - a.lastUsedMs);
  }

  /** Machines that run from it go on. @throws TsvmError `TSVM_TEMPLATE` if there is none. */
  async remove(key: string): Promise<void> {
    if (!KEY.test(key) || !existsSync(this.pathOf(key))) {
      throw new TsvmError('TSVM_TEMPLATE', `there is no template ${key}`, { hint: 'tsvm template list' });
    }
    // Out of sight in one step: nobody restores half a template.
    const doomed = join(this.directory, `.removed-${key}-${process.pid}`);
    await rename(this.pathOf(key), doomed);
    await rm(doomed, { recursive: true, force: true });
    await rm(join(this.directory, `${key}.lock`), { force: true });
  }

  /** Removes those that were used longest ago, but `most`. Returns the keys. */
  async prune({ keep, most = MAX_TEMPLATES }: { keep?: string; most?: number } = {}): Promise<string[]> {
    const removed: string[] = [];
    for (const { key } of (await this.list()).slice(most)) {
      if (key === keep) continue;
      await this.remove(key);
      removed.push(key);
    }
    return removed;
  }
}

async function bytesOnDisk(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) bytes += (await stat(join(directory, name))).blocks * 512;
  return bytes;
}
