/** Images of each kind, unpacked, changed under way, and hostile. No privilege is needed. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { LayeredImage } from '../../../src/image/image.js';
import { ImageStore } from '../../../src/image/store.js';
import { userOf } from '../../../src/image/user.js';
import { abortedEverywhere } from '../../support/abort.js';
import { readErofs } from '../../support/erofs.js';
import { temporaryDirectory } from '../../support/guest.js';
import { makeOciLayout } from '../../support/oci-layout.js';

const folder = temporaryDirectory();
let count = 0;
const newPath = (): string => join(folder, String(count++));
const newStore = (): ImageStore => new ImageStore(newPath());
/** Directory of an image, by default in a store of its own. */
const rootOf = async (text: string, store = newStore()): Promise<string> =>
  await store.directoryOf(await store.open(text));

/** Directory with one link. */
function linked(target: string, name: string): string {
  const directory = newPath();
  mkdirSync(join(directory, name, '..'), { recursive: true });
  symlinkSync(target, join(directory, name));
  return directory;
}

describe('an OCI layout', () => {
  test('is its layers, one over the other: files, whiteouts and opaque directories', async () => {
    const layout = makeOciLayout(newPath(), [
      { 'a/low': 'low', 'a/both': 'low', 'b/gone': '', 'c/hidden/deep': '' },
      { 'a/both': 'high', 'b/.wh.gone': '', 'c/.wh..wh..opq': '', 'c/new': '' },
      { 'a/.wh.nothing': '' },
    ]);
    const root = await rootOf(layout);
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
    expect(files).toEqual(['a', 'a/both', 'a/low', 'b', 'c', 'c/new']);
    expect(readFileSync(join(root, 'a/both'), 'utf8')).toBe('high');
  });

  test('says what its command is, and where and who', async () => {
    const config = { Env: ['A=1'], Entrypoint: ['/e'], Cmd: ['c'], WorkingDir: '/w', User: 'app' };
    const layout = makeOciLayout(newPath(), [{ 'etc/passwd': 'app:x:7:8::/home/app:/bin/sh\n' }], config);
    const store = newStore();
    const image = await store.open(layout);
    expect(image.config).toEqual({
      env: ['A=1'],
      entrypoint: ['/e'],
      cmd: ['c'],
      workdir: '/w',
      user: 'app',
    });
    await store.directoryOf(image);
    const accounts = { root: store.accountsOf(image) };
    expect(userOf(accounts, 'app')).toEqual({ uid: 7, gid: 8, home: '/home/app' });
    expect(userOf(accounts, '7:9')).toEqual({ uid: 7, gid: 9, home: '/home/app' });
    expect(userOf(accounts, '0')).toEqual({ uid: 0, gid: 0, home: '/root' });
    expect(() => userOf(accounts, 'nobody')).toThrow("there is no 'nobody' in /etc/passwd of the image");
  });

  test('is not unpacked into, or taken from, a store that others may enter, or a link', async () => {
    const layout = makeOciLayout(newPath(), [{ a: '' }]);
    const store = newStore();
    await rootOf(layout, store);
    chmodSync(store.directory, 0o755);
    const remedy = { code: 'TSVM_IMAGE', hint: `chmod 700 ${store.directory}` };
    await expect(rootOf(layout, store)).rejects.toMatchObject(remedy);
    chmodSync(store.directory, 0o700);
    const link = newPath();
    symlinkSync(store.directory, link);
    await expect(rootOf(layout, new ImageStore(link))).rejects.toThrow('a link');
  });

  test('is unpacked once, whoever asks at the same time', async () => {
    const layout = makeOciLayout(newPath(), [{ a: '' }]);
    const store = newStore();
    let unpacked = 0;
    const image = await store.open(`${layout}:latest`);
    const make = () => store.directoryOf(image, { onUnpack: () => unpacked++ });
    const [one, two] = await Promise.all([make(), make()]);
    await make();
    expect(one).toBe(two);
    expect(unpacked).toBeLessThanOrEqual(2);
    expect(readdirSync(store.directory)).toHaveLength(1);
  });

  test('is refused if a blob has changed or is missing, and nothing is kept', async () => {
    const layout = makeOciLayout(newPath(), [{ a: '' }, { b: '' }]);
    const blobs = join(layout, 'blobs/sha256');
    const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
    const manifest = JSON.parse(readFileSync(join(blobs, manifests[0].digest.slice(7)), 'utf8'));
    const layer = join(blobs, manifest.layers[1].digest.slice(7));
    const store = newStore();
    writeFileSync(layer, 'changed');
    await expect(rootOf(layout, store)).rejects.toThrow(`${layer}: its content does not have the digest`);
    rmSync(layer);
    await expect(rootOf(layout, store)).rejects.toThrow(
      `${layout}: there is no ${layer.slice(layout.length + 1)} in it`,
    );
    expect(readdirSync(store.directory)).toEqual([]);
  });

  test.each([
    [{ manifests: [] }, 'manifests'],
    [
      { manifests: [{ mediaType: 'x', size: 1, digest: 'sha256:../../../etc/passwd' }] },
      'is not a SHA-256 digest',
    ],
    [[], 'index.json'],
  ])('%j as its index is refused', async (index, message) => {
    const layout = makeOciLayout(newPath(), [{ a: '' }]);
    writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
    await expect(newStore().open(layout)).rejects.toThrow(message);
  });

  test('with several images needs a tag', async () => {
    const layout = makeOciLayout(newPath(), [{ a: '' }], {}, 'one');
    const first = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests;
    makeOciLayout(layout, [{ b: '' }], {}, 'two');
    const second = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests;
    writeFileSync(join(layout, 'index.json'), JSON.stringify({ manifests: [...first, ...second] }));
    await expect(newStore().open(layout)).rejects.toMatchObject({
      hint: expect.stringContaining(`${layout}:one`),
    });
    expect(readdirSync(await rootOf(`${layout}:two`))).toEqual(['b']);
    await expect(newStore().open(`${layout}:three`)).rejects.toThrow("there is no image 'three'");
  });
});

describe('an archive', () => {
  const archive = (make: (directory: string) => void, ...options: string[]): string => {
    const directory = newPath();
    mkdirSync(directory);
    make(directory);
    const path = `${newPath()}.tar`;
    spawnSync('tar', ['-C', directory, ...options, '-cf', path, '.']);
    return path;
  };

  test('keeps modes, links and times', async () => {
    const path = archive((directory) => {
      writeFileSync(join(directory, 'program'), '', { mode: 0o755 });
      symlinkSync('/absolute', join(directory, 'link'));
      spawnSync(
        'sh',
        ['-c', 'ln program hard; chmod 4755 program; chmod 1777 .; touch -d 2001-02-03 program'],
        {
          cwd: directory,
        },
      );
    });
    const root = await rootOf(path);
    const stats = lstatSync(join(root, 'program'));
    expect([stats.mode & 0o7777, stats.nlink, stats.mtime.getFullYear()]).toEqual([0o4755, 2, 2001]);
    expect(readlinkSync(join(root, 'link'))).toBe('/absolute');
    expect(lstatSync(root).mode & 0o7777).toBe(0o1777);
  });

  test('that has changed is another image', async () => {
    const store = newStore();
    const path = archive((directory) => writeFileSync(join(directory, 'a'), ''));
    const first = await rootOf(path, store);
    spawnSync('sh', ['-c', `cd ${folder} && touch b && tar -rf ${path} b`]);
    const stale = await store.open(path);
    const second = await rootOf(path, store);
    expect(second).not.toBe(first);
    expect(existsSync(join(second, 'b'))).toBe(true);
    rmSync(store.directory, { recursive: true });
    spawnSync('sh', ['-c', `cd ${folder} && touch c && tar -rf ${path} c`]);
    await expect(store.directoryOf(stale)).rejects.toThrow(`${path}: it was changed meanwhile`);
  });

  test('that is none, or is cut short, is refused, and nothing is kept', async () => {
    const store = newStore();
    const text = newPath();
    writeFileSync(text, 'not an archive '.repeat(100));
    await expect(rootOf(text, store)).rejects.toThrow(`${text}: `);
    const whole = archive((directory) => writeFileSync(join(directory, 'a'), Buffer.alloc(100_000)));
    writeFileSync(whole, readFileSync(whole).subarray(0, 50_000));
    await expect(rootOf(whole, store)).rejects.toThrow(whole);
    expect(existsSync(store.directory)).toBe(false);
  });

  test('writes and removes nothing outside of its directory', async () => {
    const outside = newPath();
    const link = { directory: newPath() };
    const evil = newPath();
    for (const path of [outside, link.directory, join(evil, 'out')]) mkdirSync(path, { recursive: true });
    symlinkSync(outside, join(link.directory, 'out'));
    for (const name of ['evil', '.wh.keep', '.wh..wh..opq']) writeFileSync(join(evil, 'out', name), '');
    writeFileSync(join(outside, 'keep'), '');
    const through = `${newPath()}.tar`;
    spawnSync('tar', ['-C', link.directory, '-cf', through, 'out', '-C', evil, 'out/evil']);
    const inside = await rootOf(through);
    expect(readdirSync(join(inside, outside))).toEqual(['evil']);
    const climbing = `${newPath()}.tar`;
    spawnSync('tar', [
      '-P',
      '-C',
      evil,
      '-cf',
      climbing,
      '--transform',
      `s|^out|../../../..${outside}|`,
      'out/evil',
    ]);
    expect(readdirSync(join(await rootOf(climbing), outside))).toEqual(['evil']);
    await rootOf(makeOciLayout(newPath(), [link, { 'out/.wh.keep': '', 'out/.wh..wh..opq': '' }]));
    expect(readdirSync(outside)).toEqual(['keep']);
  });
});

test('what a process that was killed had begun is removed by the next that unpacks', async () => {
  const store = newStore();
  mkdirSync(store.directory, { mode: 0o700 });
  mkdirSync(join(store.directory, '.unpacking-x-4194999/root'), { recursive: true });
  mkdirSync(join(store.directory, `.unpacking-y-${process.ppid}`), { recursive: true });
  await rootOf(makeOciLayout(newPath(), [{ a: '' }]), store);
  const names = readdirSync(store.directory).filter((name) => name.startsWith('.'));
  expect(names).toEqual([`.unpacking-y-${process.ppid}`]);
});

test('rootFileOf() is a file system of the layers, with the users of it, and needs no directory', async () => {
  const store = newStore();
  const layout = makeOciLayout(newPath(), [
    {
      'etc/passwd': 'old:x:1:1::/:',
      'etc/gone': '',
      'usr/share/group': 'staff:x:50:\n'.padEnd(5000, '#'),
      deep: 'x'.repeat(9000),
    },
    { 'etc/passwd': 'app:x:7:8::/home/app:/bin/sh\n', 'etc/.wh.gone': '' },
    { directory: linked('../usr/share/group', 'etc/group') },
  ]);
  const image = (await store.open(layout)) as LayeredImage;
  let made = 0;
  const path = await store.rootFileOf(image, { onMake: () => made++ });
  expect(await store.rootFileOf(image, { onMake: () => made++ })).toBe(path);
  expect(made).toBe(1);
  const { entries } = readErofs(path);
  expect([...entries.keys()].sort()).toEqual([
    '',
    'deep',
    'etc',
    'etc/group',
    'etc/passwd',
    'usr',
    'usr/share',
    'usr/share/group',
  ]);
  const accounts = { root: store.accountsOf(image) };
  expect(userOf(accounts, 'app:staff')).toEqual({ uid: 7, gid: 50, home: '/home/app' });
  expect(() => userOf(accounts, 'old')).toThrow("there is no 'old' in /etc/passwd of the image");
  expect(readdirSync(join(store.directory, image.key))).toEqual(['machine']);
  expect(readdirSync(await store.directoryOf(image)).sort()).toEqual(['deep', 'etc', 'usr']);
  expect(await store.rootFileOf(image)).toBe(path);
});

test('a root of a machine is not made of layers that changed, and nothing is kept', async () => {
  const store = newStore();
  const layout = makeOciLayout(newPath(), [{ a: 'a' }]);
  const image = (await store.open(layout)) as LayeredImage;
  const [layer] = image.layers;
  const wrong = { ...layer!, diffId: `sha256:${'0'.repeat(64)}` };
  await expect(store.rootFileOf({ ...image, layers: [wrong] })).rejects.toThrow('unpacked, it does not have');
  writeFileSync(layer!.path, 'changed');
  await expect(store.rootFileOf(image)).rejects.toThrow(layer!.path);
  expect(readdirSync(store.directory)).toEqual([]);
});

test('a directory is its own root; what is not there is named', async () => {
  expect(await newStore().open(folder)).toEqual({ kind: 'directory', directory: folder, config: {} });
  expect(await rootOf(folder)).toBe(folder);
  await expect(newStore().open('/nowhere')).rejects.toThrow('image /nowhere: there is no such file');
});

test('what is made of an image leaves nothing when it is aborted, at whatever step', async () => {
  const store = newStore();
  const image = await store.open(makeOciLayout(newPath(), [{ a: 'a' }, { b: 'b' }]));
  const made = (): string[] =>
    existsSync(store.directory) ? readdirSync(store.directory, { recursive: true, encoding: 'utf8' }) : [];
  const unpack = (signal: AbortSignal) => store.directoryOf(image, { signal });
  const unpacked = await abortedEverywhere(unpack, () => expect(made()).toEqual([]));
  expect(unpacked.steps).toBeGreaterThan(3);
  expect(readFileSync(join(unpacked.value, 'b'), 'utf8')).toBe('b');
  const before = made();
  const make = (signal: AbortSignal) => store.rootFileOf(image as LayeredImage, { signal });
  const file = await abortedEverywhere(make, () => expect(made()).toEqual(before));
  expect([file.steps > 3, existsSync(file.value)]).toEqual([true, true]);
});

test('a compressed archive that is opened or loaded, and aborted, leaves nothing, at whatever step', async () => {
  const archive = `${newPath()}.tar.gz`;
  spawnSync('tar', ['-C', makeOciLayout(newPath(), [{ a: 'a' }]), '-czf', archive, '.']);
  for (const way of ['open', 'load'] as const) {
    const store = newStore();
    const made = (): string[] =>
      existsSync(store.directory) ? readdirSync(store.directory).filter((name) => name.startsWith('.')) : [];
    const call = async (signal: AbortSignal): Promise<unknown> => await store[way](archive, { signal });
    const { steps } = await abortedEverywhere(call, () => expect(made()).toEqual([]));
    expect(steps).toBeGreaterThan(1);
  }
});
