/** Directories of images: what a user makes of what only the superuser may do, and what goes wrong. */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ImageStore } from '../../../src/image/store.js';
import { unpackLayers } from '../../../src/image/unpack.js';
import { temporaryDirectory } from '../../support/guest.js';
import { notRoot } from '../../support/skip-reasons.js';
import { dir, type TarEntry, tarOf } from '../../support/tar.js';

const folder = temporaryDirectory();
const SOMEBODY = 65534;
let count = 0;
const layer = (entries: readonly TarEntry[]) => {
  const path = join(folder, `${count++}.tar`);
  writeFileSync(path, tarOf(entries), { mode: 0o644 });
  return { path };
};

/** Runs `work` in a folder of a user's, as that user. */
async function asUser(work: (folder: string) => Promise<void>): Promise<void> {
  const own = join(folder, String(count++));
  mkdirSync(own, { mode: 0o700 });
  if (process.geteuid?.() !== 0) return await work(own);
  chmodSync(folder, 0o755);
  chownSync(own, SOMEBODY, SOMEBODY);
  process.setegid?.(SOMEBODY);
  process.seteuid?.(SOMEBODY);
  try {
    await work(own);
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

const READ_ONLY = [
  dir('go'),
  dir('go/mod', 0o555),
  { name: 'go/mod/a', mode: 0o444 },
  dir('sec', 0),
  { name: 'sec/shadow', mode: 0, uid: 7, content: 'secret' },
  { name: 'null', type: '3', numbers: [1, 3] as const },
  { name: 'ping', mode: 0o755, pax: { 'SCHILY.xattr.security.capability': 'x' } },
];

test('without root, folders without rights are filled, and device nodes and capabilities left out', async () => {
  const layers = [
    layer(READ_ONLY),
    layer([{ name: 'go/mod/.wh.a' }, { name: 'go/mod/b', mode: 0o400 }, { name: 'sec/more', mode: 0o200 }]),
  ];
  await asUser(async (own) => {
    const root = join(own, 'root');
    await unpackLayers(layers, root);
    expect(readdirSync(root).sort()).toEqual(['go', 'ping', 'sec']);
    expect(readdirSync(join(root, 'go/mod'))).toEqual(['b']);
    const modes = ['go/mod', 'go/mod/b', 'sec', 'ping'].map(
      (name) => lstatSync(join(root, name)).mode & 0o7777,
    );
    expect(modes).toEqual([0o555, 0o400, 0, 0o755]);
    chmodSync(join(root, 'sec'), 0o700);
    expect(readdirSync(join(root, 'sec')).sort()).toEqual(['more', 'shadow']);
    expect(lstatSync(join(root, 'sec/shadow')).mode & 0o7777).toBe(0);
    expect(lstatSync(join(root, 'sec/shadow')).uid).toBe(process.geteuid?.());
  });
});

test('without root, images with such folders go when there are too many', async () => {
  const images = Array.from({ length: 18 }, (_, i) => layer([...READ_ONLY, { name: `image-${i}` }]).path);
  await asUser(async (own) => {
    const store = new ImageStore(join(own, 'images'));
    for (const image of images) await store.directoryOf(await store.open(image));
    expect(readdirSync(store.directory).length).toBe(16);
  });
});

test('owners, modes, times, names and holes are those of the archive', async ({ skip }) => {
  skip(notRoot() !== undefined, notRoot());
  const root = join(folder, 'facts');
  const pax = (mtime: string) => ({ mtime });
  await unpackLayers(
    [
      layer([
        { ...dir('./', 0o711), uid: 1, pax: pax('1000') },
        { ...dir('d', 0o2755), uid: 2, pax: pax('2000') },
        { name: 'd/su', mode: 0o6755, uid: 3, pax: pax('-62135596800'), content: 'su' },
        { name: 'l', type: '2', link: '/nowhere', uid: 4, pax: pax('4000') },
        { name: 'd/again', type: '1', link: 'd/su' },
      ]),
    ],
    root,
  );
  const facts = (name: string) => {
    const { mode, uid, mtimeMs, nlink } = lstatSync(join(root, name));
    return [mode & 0o7777, uid, mtimeMs / 1000, nlink];
  };
  expect(facts('.')).toEqual([0o711, 1, 1000, 3]);
  expect(facts('d')).toEqual([0o2755, 2, 2000, 2]);
  expect([facts('d/su')[0], facts('d/su')[1], facts('d/su')[3]]).toEqual([0o6755, 3, 2]);
  expect(lstatSync(join(root, 'd/again')).ino).toBe(lstatSync(join(root, 'd/su')).ino);
  expect(facts('l').slice(1, 3)).toEqual([4, 4000]);
  expect(readFileSync(join(root, 'd/again'), 'utf8')).toBe('su');
  expect(existsSync(`${root}.files`)).toBe(false);
});

test('a place that cannot be written is named with what to do', async () => {
  const file = layer([]).path;
  await expect(unpackLayers([layer([{ name: 'a' }])], join(file, 'root'))).rejects.toMatchObject({
    code: 'TSVM_HOST',
    message: `cannot unpack into ${file}/root: a part of the path is not a directory`,
    hint: expect.stringContaining('TSVM_IMAGE_DIR'),
  });
});
