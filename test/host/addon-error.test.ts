/** The addon as this host's loader refuses it: copies that were altered by a few bytes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { addonError } from '../../src/native/addon-error.js';
import { packageFile } from '../../src/util/package-file.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const addon = readFileSync(packageFile('kvm-addon/build/Release/kvm_addon.node')).toString('latin1');
/** Copy of the addon with another byte at an offset. */
const withByte = (offset: number, byte: number): string =>
  addon.slice(0, offset) + String.fromCharCode(byte) + addon.slice(offset + 1);

test.for<readonly [name: string, content: string | undefined, said: RegExp, hint: RegExp]>([
  ['missing', undefined, /Cannot find module/, /^make it$/],
  ['empty', '', /file too short/, /damaged: make it/],
  [
    'text',
    'no addon at all, but long enough for one',
    /invalid ELF header|file too short/,
    /damaged: make it/,
  ],
  ['of 32 bits', withByte(4, 1), /wrong ELF class/, /another processor/],
  ['of another processor', withByte(18, 183), /cannot open shared object file/, /another processor/],
  [
    'for a later glibc',
    addon.replace(/GLIBC_2\.\d\d\0/, 'GLIBC_2.99\0'),
    /version `GLIBC_2\.99' not found/,
    /glibc 2\.99 or later/,
  ],
  [
    'with a library that is not here',
    addon.replace('libstdc++.so.6\0', 'libstdd++.so.6\0'),
    /libstdd\+\+\.so\.6: cannot open/,
    /install libstdd\+\+\.so\.6/,
  ],
])('addonError() of one %s has the loader’s words and the remedy', ([name, content, said, hint]) => {
  const path = join(folder, `${name}.node`);
  if (content !== undefined) writeFileSync(path, content, 'latin1');
  let error = new Error('it was loaded') as Error & { hint?: string | undefined };
  try {
    createRequire(import.meta.url)(path);
  } catch (cause) {
    error = addonError(cause, path, 'make it');
  }
  expect(error.message).toMatch(/^the native addon cannot be loaded: /);
  expect(error.message).toMatch(said);
  expect(error.message).toContain(name === 'with a library that is not here' ? 'libstdd' : path);
  expect(error.hint).toMatch(hint);
});
