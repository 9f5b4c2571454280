/** What tests need of the network, fetched once: the rig has no network. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tsvm/test');

export function isCached(name: string): boolean {
  return existsSync(join(CACHE, name));
}

/** A folder there. `make` makes it if it is not yet, under another name, so that what is cached is whole. */
export function cached(name: string, make: (folder: string) => void): string {
  const path = join(CACHE, name);
  if (existsSync(path)) return path;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  try {
    make(unfinished);
    renameSync(unfinished, path);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return path;
}
