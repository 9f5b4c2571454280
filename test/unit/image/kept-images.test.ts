/** Images under names: loaded, named, saved, removed; what docker, podman and skopeo read of them. No privilege is needed. */
import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { KeptImages } from '../../../src/image/kept-images.js';
import { parseReference } from '../../../src/image/reference.js';
import { saveImages } from '../../../src/image/save-image.js';
import { ImageStore } from '../../../src/image/store.js';
import { programFlock } from '../../support/flock.js';
import { temporaryDirectory } from '../../support/guest.js';
import { makeOciLayout } from '../../support/oci-layout.js';
import { missingProgram } from '../../support/skip-reasons.js';

const folder = temporaryDirectory();
let count = 0;
const newPath = (): string => join(folder, String(count++));

function newStores(): { store: ImageStore; kept: KeptImages } {
  const directory = newPath();
  return { store: new ImageStore(directory, programFlock), kept: new KeptImages(directory, programFlock) };
}
const blobsIn = ({ directory }: KeptImages): string[] =>
  readdirSync(join(directory, 'blobs/sha256')).filter((name) => !name.startsWith('.'));
/** Folder that is the lower layer of all images here, byte for byte. */
const shared = newPath();
mkdirSync(shared);
writeFileSync(join(shared, 'shared'), 'x');
/** A layout of one image with a layer that others have, and one of its own. */
const layoutOf = (name: string): string =>
  makeOciLayout(newPath(), [{ directory: shared }, { own: name }], { Cmd: ['sh'] }, name);

/** Name of the image that a text leads to, by its own layer. */
async function ownOf(text: string, store: ImageStore): Promise<string> {
  return readFileSync(join(await store.directoryOf(await store.open(text)), 'own'), 'utf8');
}

describe('images under names', () => {
  test('are loaded, found by name and id, and share what is the same', async () => {
    const { store, kept } = newStores();
    await store.load(layoutOf('one:1'));
    const [two] = await store.load(layoutOf('registry.example:5000/team/two:2'));
    expect(two?.names.map(({ tag }) => tag)).toEqual(['2']);
    expect(blobsIn(kept)).toHaveLength(7);
    for (const text of ['one:1', 'docker.io/library/one:1']) expect(await ownOf(text, store)).toBe('one:1');
    const { image } = await kept.find('registry.example:5000/team/two:2');
    expect(image).toMatchObject({ names: ['registry.example:5000/team/two:2'], whole: true });
    for (const text of [
      image.id,
      image.id.slice(7, 19),
      image.digest,
      `registry.example:5000/team/two@${image.digest}`,
    ])
      expect(await ownOf(text, store)).toBe('registry.example:5000/team/two:2');
    await expect(store.open('one:2')).rejects.toThrow(
      'image one:2: there is no such file or directory, and no image',
    );
    await expect(kept.find('abc')).rejects.toThrow('there is no image "abc"');
  });

  test('move to another image, and the one before stays without a name until it is removed', async () => {
    const { store, kept } = newStores();
    await store.load(layoutOf('one:1'));
    await store.load(layoutOf('two:2'));
    const { image: one } = await kept.find('one:1');
    kept.names.set(parseReference('one:1'), (await kept.find('two:2')).image.digest);
    expect((await kept.list()).map(({ names }) => names)).toEqual([
      ['docker.io/library/one:1', 'docker.io/library/two:2'],
      [],
    ]);
    expect(await ownOf(one.id, store)).toBe('one:1');
    kept.names.set(parseReference('again'), one.digest);
    kept.names.set(parseReference('again'), one.digest);
    expect(kept.names.list().filter(({ name }) => name === undefined)).toEqual([]);
    expect(await kept.remove('again')).toMatchObject({
      names: ['docker.io/library/again:latest'],
      id: one.id,
    });
  });

  test('are removed with what no other image has, of blobs and of what was made', async () => {
    const { store, kept } = newStores();
    for (const name of ['one:1', 'two:2']) await store.load(layoutOf(name));
    for (const name of ['one:1', 'two:2']) await ownOf(name, store);
    const { image } = await kept.find('one:1');
    kept.names.set(parseReference('alias'), image.digest);
    await expect(kept.remove(image.id)).rejects.toThrow('has several names');
    expect(await kept.remove('one:1')).toMatchObject({ names: ['docker.io/library/one:1'], bytes: 0 });
    expect(blobsIn(kept)).toHaveLength(7);
    const { bytes, id } = await kept.remove(image.id.slice(0, 17));
    expect([id, bytes > 0]).toEqual([image.id, true]);
    expect(blobsIn(kept)).toHaveLength(4);
    expect(readdirSync(store.directory).filter((name) => name.startsWith('sha256-'))).toHaveLength(1);
    expect(await ownOf('two:2', store)).toBe('two:2');
  });

  test('stay while another process uses what was made of them', async () => {
    const { store, kept } = newStores();
    await store.load(layoutOf('one:1'));
    const image = await store.open('one:1');
    const directory = await store.directoryOf(image);
    const user = spawn('sh', ['-c', 'echo; read x'], { stdio: ['pipe', 'pipe', 'ignore'], cwd: directory });
    const holder = spawn('sh', ['-c', `exec 9<${directory}/own; echo; read x`], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    try {
      await new Promise((resolve) => holder.stdout.once('data', resolve));
      await expect(kept.remove('one:1')).rejects.toThrow(`image one:1 is used by process ${holder.pid}`);
      expect(await kept.remove('one:1', { force: true })).toMatchObject({ usedBy: [holder.pid] });
      expect(readFileSync(join(directory, 'own'), 'utf8')).toBe('one:1');
      expect(await kept.list()).toEqual([]);
    } finally {
      user.kill();
      holder.kill();
    }
  });

  test('can be removed though blobs of them are damaged or missing, and others are untouched', async () => {
    const { store, kept } = newStores();
    for (const name of ['one:1', 'two:2']) await store.load(layoutOf(name));
    const { image } = await kept.find('one:1');
    writeFileSync(kept.blobs.pathOf(image.digest), '{');
    expect((await kept.find('one:1')).image).toMatchObject({ whole: false });
    await expect(store.open('one:1')).rejects.toMatchObject({ code: 'TSVM_IMAGE' });
    expect(await kept.remove('one:1')).toMatchObject({ names: ['docker.io/library/one:1'] });
    rmSync(kept.blobs.pathOf((await kept.find('two:2')).image.id));
    await expect(store.open('two:2')).rejects.toThrow('is missing');
    writeFileSync(join(store.directory, 'names', 'damaged'), '{');
    expect(await kept.list()).toMatchObject([{ names: ['docker.io/library/two:2'], whole: false }]);
  });

  test('are loaded by two processes at once, and by one that reads standard input', async () => {
    const { store, kept } = newStores();
    const layout = layoutOf('one:1');
    await Promise.all([store.load(layout), store.load(layout)]);
    const archive = newPath();
    spawnSync('tar', ['-C', layout, '-czf', archive, ...readdirSync(layout)]);
    await store.loadStream(Readable.from([readFileSync(archive)]));
    expect(blobsIn(kept)).toHaveLength(4);
    expect(readdirSync(store.directory).filter((name) => name.startsWith('.unpacking'))).toEqual([]);
    expect(await kept.list()).toHaveLength(1);
  });

  test('that fail to load leave none of themselves, and no other image is touched', async () => {
    const { store, kept } = newStores();
    await store.load(layoutOf('one:1'));
    const layout = layoutOf('two:2');
    const manifest = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests[0].digest;
    const { layers } = JSON.parse(readFileSync(join(layout, 'blobs/sha256', manifest.slice(7)), 'utf8'));
    writeFileSync(join(layout, 'blobs/sha256', layers[1].digest.slice(7)), gzipSync('changed'));
    await expect(store.load(layout)).rejects.toThrow('digest');
    expect((await kept.list()).map(({ names }) => names)).toEqual([['docker.io/library/one:1']]);
    await kept.removeUnused();
    expect(blobsIn(kept)).toHaveLength(4);
    const named = layoutOf('Not/A Name');
    await expect(store.load(named)).rejects.toThrow("image name 'Not/A Name'");
    const root = newPath();
    mkdirSync(join(root, 'bin'), { recursive: true });
    await expect(store.load(root)).rejects.toThrow('it is a directory of a root, and no image with a name');
    const stream = store.loadStream(Readable.from([Buffer.from('no archive')]));
    await expect(stream).rejects.toThrow(/^standard input: it is not an archive$/);
  });
});

describe('an archive of saveImages()', () => {
  const save = async (kept: KeptImages, ...texts: string[]): Promise<string> => {
    const path = newPath();
    const images = await Promise.all(texts.map(async (text) => (await kept.find(text)).image));
    const saved = images.map((image) => ({ image, names: image.names }));
    await pipeline(Readable.from(saveImages(saved, kept)), createWriteStream(path));
    return path;
  };

  test('is what was loaded, with the same digests, for another store', async () => {
    const { store, kept } = newStores();
    for (const name of ['one:1', 'two:2']) await store.load(layoutOf(name));
    kept.names.set(parseReference('registry.example/alias'), (await kept.find('one:1')).image.digest);
    const path = await save(kept, 'one:1', 'two:2');
    expect(spawnSync('tar', ['-tf', path]).status).toBe(0);
    const other = newStores();
    await other.store.load(path);
    expect(await other.kept.list()).toEqual(await kept.list());
    expect(await ownOf(`${path}:registry.example/alias`, store)).toBe('one:1');
    rmSync(kept.blobs.pathOf((await kept.find('two:2')).image.digest));
    await expect(save(kept, 'two:2')).rejects.toThrow('is missing');
  });

  test('is read by skopeo, as either form', async ({ skip }) => {
    const reason = missingProgram('skopeo');
    skip(reason !== undefined, reason);
    const { store, kept } = newStores();
    await store.load(layoutOf('one:1'));
    const path = await save(kept, 'one:1');
    for (const source of [`docker-archive:${path}`, `docker-archive:${path}:one:1`, `oci-archive:${path}`]) {
      const layout = newPath();
      const words = ['--insecure-policy', '--tmpdir', folder, 'copy', '-q', source, `oci:${layout}:copied`];
      const { status, stderr } = spawnSync('skopeo', words, { encoding: 'utf8' });
      expect([source, status, stderr]).toEqual([source, 0, '']);
      expect(await ownOf(layout, store)).toBe('one:1');
    }
  });

  test('is used from podman’s store, through skopeo', async ({ skip }) => {
    const reason = missingProgram('skopeo') ?? missingProgram('podman');
    skip(reason !== undefined, reason);
    const { store, kept } = newStores();
    await store.load(layoutOf('one:1'));
    const path = await save(kept, 'one:1');
    const [root, run] = [newPath(), newPath()];
    const words = ['--root', root, '--runroot', run, '--storage-driver', 'vfs', 'load', '-q', '-i', path];
    expect(spawnSync('podman', words).status).toBe(0);
    const text = `containers-storage:[vfs@${root}+${run}]docker.io/library/one:1`;
    expect(await ownOf(text, store)).toBe('one:1');
    await expect(store.open(text.replace('one:1', 'two:1'))).rejects.toMatchObject({ code: 'TSVM_IMAGE' });
    expect(readdirSync(store.directory).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('is loaded by podman', async ({ skip }) => {
    const reason = missingProgram('podman');
    skip(reason !== undefined, reason);
    const { store, kept } = newStores();
    for (const name of ['one:1', 'two:2']) await store.load(layoutOf(name));
    const path = await save(kept, 'one:1', 'two:2');
    const words = ['--root', newPath(), '--runroot', newPath(), '--storage-driver', 'vfs'];
    const loaded = spawnSync('podman', [...words, 'load', '-i', path], { encoding: 'utf8' });
    expect([loaded.status, loaded.stdout.split('\n').sort()]).toEqual([
      0,
      expect.arrayContaining([expect.stringContaining('one:1'), expect.stringContaining('two:2')]),
    ]);
  });
});
