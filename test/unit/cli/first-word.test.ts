import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { hasProgram, looksLikeImage, takeWords } from '../../../src/cli/session/first-word.js';
import { NameStore } from '../../../src/image/names.js';
import { parseReference } from '../../../src/image/reference.js';

const folder = mkdtempSync(join(tmpdir(), 'tsvm-first-word-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => void vi.unstubAllEnvs());

test.each([
  'debian:12',
  'debian:bookworm-slim',
  'library/debian:12',
  'bin/busybox',
  'ghcr.io/owner/app',
  'ghcr.io/owner/app:1.0',
  'localhost:5000/app:latest',
  'docker-daemon:debian:12',
  `app@sha256:${'0'.repeat(64)}`,
])('looksLikeImage() takes %s for an image', (word) => expect(looksLikeImage(word)).toBe(true));

test.each([
  'uname',
  './debian:12',
  '/bin/a:b',
  '~/debian:12',
  'run.sh',
  '../a.b/c',
  'my-tool_2',
  '',
  ':',
  'A:B:C',
  'https://debian:12',
])('looksLikeImage() takes %j for a program', (word) => expect(looksLikeImage(word)).toBe(false));

/** Takes the words of a `tsvm run` command line apart. */
async function taken(...args: string[]) {
  const run = new Command('run').argument('[command...]').option('--image <image>').option('-e <name>');
  run.passThroughOptions();
  const program = new Command('tsvm').enablePositionalOptions().option('--debug').addCommand(run);
  await program.parseAsync(['node', 'tsvm', ...args]);
  return await takeWords(run, run.opts());
}

test.each([
  [['run', 'debian:12', 'ls', '-l'], 'debian:12', ['ls', '-l']],
  [['--debug', 'run', '-e', 'A=1', 'debian:12', '--', 'ls'], 'debian:12', ['ls']],
  [['run', 'debian:12'], 'debian:12', []],
  [['run', '--', 'debian:12', 'ls'], undefined, ['debian:12', 'ls']],
  [['run', '-e', 'A=1', '--', 'a/b'], undefined, ['a/b']],
  [['run', '--image', 'x', 'debian:12'], undefined, ['debian:12']],
  [['run', '/bin/true'], undefined, ['/bin/true']],
  [['run'], undefined, []],
])('takeWords() of %j', async (args, image, words) => {
  vi.stubEnv('TSVM_IMAGE_DIR', join(folder, 'none'));
  expect(await taken(...args)).toEqual({
    ...(image === undefined ? {} : { image }),
    words,
    isEither: false,
  });
});

test('takeWords() takes a word for an image if one of that name is kept, and else says that it could be one', async () => {
  const directory = join(folder, 'images');
  vi.stubEnv('TSVM_IMAGE_DIR', directory);
  vi.stubEnv('XDG_CONFIG_HOME', folder);
  expect(await taken('run', 'debian')).toEqual({ words: ['debian'], isEither: true });
  const names = new NameStore(directory);
  names.set(parseReference('debian:12'), `sha256:${'1'.repeat(64)}`);
  expect(await taken('run', 'debian')).toMatchObject({ words: ['debian'] });
  names.set(parseReference('debian'), `sha256:${'1'.repeat(64)}`);
  names.set(parseReference('registry.example/owner/uname'), `sha256:${'1'.repeat(64)}`);
  expect(await taken('run', 'debian', 'ls')).toMatchObject({ image: 'debian', words: ['ls'] });
  expect(await taken('run', 'uname')).toEqual({ words: ['uname'], isEither: true });
  expect(await taken('run', '--', 'debian')).toEqual({ words: ['debian'], isEither: false });
  expect(await taken('run', './debian')).toEqual({ words: ['./debian'], isEither: false });
});

test('hasProgram() finds a name in the list of an initramfs, and no part of one', () => {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'initramfs');
  writeFileSync(path, 'x\0sh\0uname\0');
  expect(['sh', 'uname', 'una', 'debian'].map((word) => hasProgram(path, word))).toEqual([
    ...[true, true, false, false],
  ]);
});
