/** Memtest86+ as Debian packs it. Installed, it would change this host's boot menu. */
import { join } from 'node:path';
import { unpackedPackages } from './debian-package.js';
import { uncached } from './test-cache.js';

const NAME = 'memtest';

/** Reason why there is none, if there is none. */
export const memtestProblem = (): string | undefined => uncached(NAME);

/** The path of its bzImage. */
export function memtestImage(): string {
  return join(unpackedPackages(NAME, ['memtest86+']), 'boot/memtest86+x64.bin');
}
