/** Packages of Debian's, unpacked into the tests' cache and not installed: installed, they would change this host. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cached } from './test-cache.js';

/** Fetches `packages` if they are not cached as `name` yet. Returns the folder that is their root. */
export function unpackedPackages(name: string, packages: readonly string[]): string {
  return cached(name, (folder) => {
    mkdirSync(folder);
    const fetch = ['download', '-q', '-o', 'APT::Sandbox::User=root', ...packages];
    execFileSync('apt-get', fetch, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    for (const file of readdirSync(folder)) {
      execFileSync('dpkg', ['-x', file, '.'], { cwd: folder });
      rmSync(join(folder, file));
    }
  });
}
