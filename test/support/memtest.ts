/** Memtest86+ as Debian packs it. The package is unpacked, not installed: installed, it would change this host's boot menu. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cached, isCached } from './test-cache.js';

const NAME = 'memtest86+';

/** Why Memtest86+ is not here and cannot be fetched; undefined if it is or can. */
export function memtestProblem(): string | undefined {
  if (isCached(NAME) || process.env['TSVM_RIG'] !== '1') return undefined;
  return 'the rig has no network: fetch memtest86+ outside first';
}

/** Fetches Memtest86+ if it is not in the tests' cache yet. Returns the path of its bzImage. */
export function memtestImage(): string {
  const folder = cached(NAME, (unfinished) => {
    mkdirSync(unfinished);
    const fetch = ['download', '-q', '-o', 'APT::Sandbox::User=root', 'memtest86+'];
    execFileSync('apt-get', fetch, { cwd: unfinished, stdio: ['ignore', 'ignore', 'pipe'] });
    for (const name of readdirSync(unfinished)) {
      execFileSync('dpkg', ['-x', name, '.'], { cwd: unfinished });
      rmSync(join(unfinished, name));
    }
  });
  return join(folder, 'boot/memtest86+x64.bin');
}
