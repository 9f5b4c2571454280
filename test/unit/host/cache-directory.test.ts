/** Where what can be made again is kept. */
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { cacheDirectory } from '../../../src/host/cache-directory.js';

afterEach(() => vi.unstubAllEnvs());

test('what a variable names is absolute, since containers and machines are started elsewhere', () => {
  vi.stubEnv('TSVM_IMAGE_DIR', 'images');
  expect(cacheDirectory('TSVM_IMAGE_DIR', 'images')).toBe(join(process.cwd(), 'images'));
  vi.stubEnv('TSVM_IMAGE_DIR', '');
  vi.stubEnv('XDG_CACHE_HOME', 'cache');
  expect(cacheDirectory('TSVM_IMAGE_DIR', 'images')).toBe(join(process.cwd(), 'cache/tsvm/images'));
});
