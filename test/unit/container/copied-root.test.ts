import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import {
  copyLayers,
  mountsOverlayForUsers,
  removeCopy,
  sweepCopies,
} from '../../../src/container/copied-root.js';
import { abortedEverywhere } from '../../support/abort.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();

function layer(name: string, files: Record<string, string>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, path, '..'), { recursive: true });
    writeFileSync(join(folder, name, path), text);
  }
  return join(folder, name);
}

test('a later layer is over an earlier one, whatever kind of file each has', async () => {
  const low = layer('low', { 'bin/sh': 'old', 'etc/a': 'a', 'var/x': 'file' });
  symlinkSync('/nowhere', join(low, 'etc/link'));
  const high = layer('high', { 'bin/sh': 'new', 'var/x/y': 'now a directory', 'etc/link': 'now a file' });
  const copy = await copyLayers([low, high]);
  expect(readFileSync(join(copy, 'bin/sh'), 'utf8')).toBe('new');
  expect(readFileSync(join(copy, 'var/x/y'), 'utf8')).toBe('now a directory');
  expect(lstatSync(join(copy, 'etc/link')).isFile()).toBe(true);
  removeCopy(copy);
});

test('links stay what they say', async () => {
  const low = layer('links', { a: 'a' });
  symlinkSync('../../../etc/passwd', join(low, 'out'));
  const copy = await copyLayers([low]);
  expect(readlinkSync(join(copy, 'out'))).toBe('../../../etc/passwd');
  removeCopy(copy);
});

test('a copy that is aborted leaves nothing, at whatever file', async () => {
  const low = layer('aborted', { 'bin/sh': 'sh', 'etc/a': 'a' });
  const copies = (): string[] =>
    readdirSync(tmpdir()).filter((name) => name.startsWith(`tsvm-root-${process.pid}-`));
  const before = copies();
  const { value, steps } = await abortedEverywhere(
    (signal) => copyLayers([low], signal),
    () => expect(copies()).toEqual(before),
  );
  removeCopy(value);
  expect(steps).toBe(5);
});

test('what a killed process left goes, and nobody else’s', async () => {
  const copy = await copyLayers([layer('swept', { a: 'a' })]);
  const copies = () => readdirSync(tmpdir()).filter((name) => name === basename(dirname(copy)));
  sweepCopies(() => true);
  expect(copies()).toHaveLength(1);
  sweepCopies((pid) => pid !== process.pid);
  expect(copies()).toEqual([]);
});

test('what only looks like a copy stays: a link, another user’s folder, and one that others may enter', () => {
  const target = layer('target', { 'root/a': 'a' });
  const link = join(tmpdir(), `tsvm-root-999999999-${process.pid}`);
  const foreign = join(tmpdir(), `tsvm-root-999999998-${process.pid}`);
  const open = join(tmpdir(), `tsvm-root-999999997-${process.pid}`);
  symlinkSync(target, link);
  mkdirSync(foreign, { mode: 0o777 });
  chmodSync(foreign, 0o777);
  mkdirSync(join(open, 'root'), { recursive: true });
  chmodSync(open, 0o755);
  try {
    sweepCopies((pid) => pid < 999_999_997);
    expect(readdirSync(open)).toEqual(['root']);
    expect([readdirSync(target), readdirSync(foreign)]).toEqual([['root'], []]);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
  } finally {
    rmSync(link);
    rmSync(open, { recursive: true, force: true });
    rmSync(foreign, { recursive: true, force: true });
  }
});

test.each([
  ['4.18.0-553.el8', false],
  ['5.10.0-30-amd64', false],
  ['5.11.0', true],
  ['6.1.0', true],
])('%s', (kernel, expected) => expect(mountsOverlayForUsers(kernel)).toBe(expected));
