/** Things that tests need of the network, or of a long build: made once, before the rig starts, which has no network. See prefetch.ts. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { missing } from './skip-reasons.js';

/** The folder of the cache that is `name`'s: the rig's is beside the tests'. */
export const cacheFolder = (name: 'rig' | 'test'): string =>
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tsvm', name);

/** A folder there. `make` makes it if it is not yet, under another name, so that what is cached is whole. */
export function cached(name: string, make: (folder: string) => void): string {
  const cache = cacheFolder('test');
  const path = join(cache, name);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  try {
    make(unfinished);
    renameSync(unfinished, path);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return path;
}

/** The same for something that is made again when `key` has changed: `name` with an older one is removed. */
export function cachedFor(name: string, key: string, make: (folder: string) => void): string {
  const path = cached(`${name}@${key}`, make);
  for (const older of versions(name)) {
    if (older !== path) rmSync(older, { recursive: true, force: true });
  }
  return path;
}

/** A folder that has been cached by one of the two, whatever its key. */
export function findCached(name: string): string | undefined {
  const path = join(cacheFolder('test'), name);
  const newest = versions(name).sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  return existsSync(path) ? path : newest[0];
}

/** The reason to skip a test in the rig, which can only take what was cached before. */
export function uncached(name: string): string | undefined {
  const needed = process.env['TSVM_RIG'] === '1' && findCached(name) === undefined;
  return needed ? missing(`${name} in the cache of tests (see test/support/prefetch.ts)`) : undefined;
}

/** All that are cached of `name`, and whole. */
function versions(name: string): string[] {
  const cache = cacheFolder('test');
  if (!existsSync(cache)) return [];
  const whole = new RegExp(`^${name}@[^.]*$`);
  return readdirSync(cache)
    .filter((entry) => whole.test(entry))
    .map((entry) => join(cache, entry));
}
