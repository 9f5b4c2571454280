/** Where what can be made again is kept. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * `$VARIABLE`, else `tsvm/NAME` in `$XDG_CACHE_HOME` or `~/.cache`, as an absolute path, whatever the variable has: others are started in
 * another directory. An empty variable is none (XDG Base Directory Specification).
 */
export function cacheDirectory(variable: string, name: string): string {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return resolve(process.env[variable] || join(cache, 'tsvm', name));
}
