/** Files of a directory that is not trusted: no link leads out of it. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readFileIn } from '../../../src/host/path-in.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
mkdirSync(join(root, 'etc/real'), { recursive: true });
writeFileSync(join(root, 'etc/real/file'), 'inside');
writeFileSync(join(folder, 'file'), 'outside');
mkdirSync(join(root, folder), { recursive: true });
writeFileSync(join(root, folder, 'file'), 'inside');

const read = (path: string, maxBytes = 100): string | undefined =>
  readFileIn(root, path, maxBytes)?.toString();
let number = 0;
const link = (to: string): string => {
  const name = `link${number++}`;
  symlinkSync(to, join(root, name));
  return name;
};

describe('readFileIn()', () => {
  test.each(['etc/real/file', '/etc//real/./file', '../../etc/real/file', 'etc/../etc/real/../real/file'])(
    'reads %j',
    (path) => {
      expect(read(path)).toBe('inside');
    },
  );

  test.each(['/etc/real', 'etc/real', './etc/real/.', '/../etc/real', '../../../etc/real', '//etc/real/'])(
    'follows a folder that is a link to %j below the root',
    (to) => {
      expect(read(`${link(to)}/file`)).toBe('inside');
    },
  );

  test('follows links to the host’s paths below the root', () => {
    for (const to of [folder, `/..${folder}`, `../../../../../..${folder}`])
      expect(read(`${link(to)}/file`)).toBe('inside');
    expect(read(link(`${folder}/file`))).toBe('inside');
    expect(read(link('../file'))).toBeUndefined();
  });

  test.each(['/proc/self/root', '/proc/self/cwd', '/proc/1/root', `/proc/self/fd/0`])(
    'has no %s, which is the host’s',
    (to) => {
      expect(read(`${link(to)}${folder}/file`)).toBeUndefined();
    },
  );

  test('takes what is no file for nothing, and waits for none', () => {
    expect(spawnSync('mkfifo', [join(root, 'fifo')]).status).toBe(0);
    expect([read('fifo'), read('etc'), read('etc/real/file/x'), read('nothing/x')]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('bounds links and sizes, and leaves no descriptor open', () => {
    const before = readdirSync('/proc/self/fd').length;
    symlinkSync('loop', join(root, 'loop'));
    expect([read('loop/x'), read(link(`${'x/'.repeat(2040)}etc`))]).toEqual([undefined, undefined]);
    expect(() => read('etc/real/file', 5)).toThrow('longer than 5 bytes');
    expect(read('etc/real/file', 6)).toBe('inside');
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });
});
