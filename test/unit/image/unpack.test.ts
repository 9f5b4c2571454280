/** Archives: what of them comes to the host, and what does not. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { OwnFolder } from '../../../src/host/own-folder.js';
import { Blob } from '../../../src/image/blob.js';
import { ImageStore } from '../../../src/image/store.js';
import { unpackLayers } from '../../../src/image/unpack.js';
import { temporaryDirectory } from '../../support/guest.js';
import { notRoot } from '../../support/skip-reasons.js';
import { type TarEntry, tarOf } from '../../support/tar.js';

const folder = temporaryDirectory();
let count = 0;
const newPath = (): string => join(folder, String(count++));
const written = (bytes: Uint8Array): string => {
  const path = newPath();
  writeFileSync(path, bytes);
  return path;
};
/** Directory of an image, by default in a store of its own. */
const rootOf = async (path: string, store = new ImageStore(newPath())): Promise<string> =>
  await store.directoryOf(await store.open(path));
const unpack = async (entries: readonly TarEntry[]): Promise<string> => await rootOf(written(tarOf(entries)));
const layer = (entries: readonly TarEntry[]): { path: string; digest: string } => {
  const bytes = tarOf(entries);
  return { path: written(bytes), digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` };
};
const namesIn = (root: string): string[] => readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();

describe('an archive', () => {
  test('leaves no device behind, wherever it stands, and nothing that is linked to one', async () => {
    const root = await unpack([
      { name: 'data/sda', type: '4', mode: 0o666, numbers: [8, 0] },
      { name: './opt/null', type: '3', mode: 0o666, numbers: [1, 3] },
      { name: 'data/again', type: '1', link: './opt//null' },
      { name: 'data/third', type: '1', link: 'data/again' },
      { name: 'var', type: '2', link: 'opt' },
      { name: 'whiteout', type: '3' },
      { name: 'x', type: '0', content: 'x' },
      { name: 'x', type: '4', numbers: [8, 0] },
    ]);
    expect(namesIn(root)).toEqual(['var', 'x']);
    expect(lstatSync(join(root, 'x')).isFile()).toBe(true);
  });

  test('loses what is in its top dev alone', async () => {
    const kept = ['app/dev/main.js', 'usr/lib/dev/x', 'developer/x', 'dev.txt'];
    const lost = ['dev/console', './dev/x', '/dev/y', 'dev//z', './/dev/.//deep/x'];
    const root = await unpack([
      { name: 'dev/', type: '5', mode: 0o755 },
      ...[...kept, ...lost].map((name) => ({ name, content: 'x' })),
    ]);
    for (const name of kept) expect(readFileSync(join(root, name), 'utf8')).toBe('x');
    expect(readdirSync(join(root, 'dev'))).toEqual([]);
  });

  test('keeps names of any bytes, long ones, old directories, and holes', async () => {
    const odd = Buffer.from('odd-\xff\n\t\\x2d', 'latin1');
    const directory = newPath();
    const long = `${'long/'.repeat(60)}name`;
    mkdirSync(join(directory, long), { recursive: true });
    writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), odd]), 'odd');
    const sparse = [
      '-c',
      'truncate -s 1M holes; printf x >> holes; printf y | dd of=holes bs=1 seek=500000 conv=notrunc',
    ];
    spawnSync('sh', sparse, { cwd: directory });
    for (const form of ['gnu', 'posix --sparse-version=0.1', 'posix --sparse-version=1.0']) {
      const path = newPath();
      const words = [
        '-C',
        directory,
        '--sparse',
        '--mtime=@0',
        ...`--format=${form}`.split(' '),
        '-cf',
        path,
        '.',
      ];
      expect(spawnSync('tar', words).status).toBe(0);
      const root = await rootOf(path);
      expect(readdirSync(root, { encoding: 'buffer' }).some((name) => name.equals(odd))).toBe(true);
      expect(existsSync(join(root, long))).toBe(true);
      expect(readFileSync(join(root, 'holes')).equals(readFileSync(join(directory, 'holes')))).toBe(true);
      expect(lstatSync(join(root, 'holes')).blocks).toBeLessThan(1000);
    }
    expect(lstatSync(join(await unpack([{ name: 'old/' }]), 'old')).isDirectory()).toBe(true);
  });

  test('is a tar archive, compressed by one that is known, and is given to no other program', async () => {
    const bytes = tarOf([{ name: 'a', content: 'a' }]);
    for (const program of ['cat', 'gzip', 'bzip2', 'xz', 'zstd', 'lz4']) {
      const { stdout } = spawnSync(program, program === 'cat' ? [] : ['-c'], { input: bytes });
      const root = await rootOf(written(stdout));
      expect([program, ...namesIn(root)]).toEqual([program, 'a']);
    }
    const bin = newPath();
    mkdirSync(bin);
    for (const name of ['lrzip', 'lzop', 'grzip', 'gzip']) {
      writeFileSync(join(bin, name), `#!/bin/sh\ntouch ${bin}/ran\n`);
      chmodSync(join(bin, name), 0o755);
    }
    vi.stubEnv('PATH', `${bin}:${process.env['PATH']}`);
    const others = [
      'LRZI\0\u0006',
      '\x89LZO\0\r\n\x1a\n',
      'GRZipII\0\u0002\u0004:)',
      '7z\xbc\xaf\x27\x1c',
      '#mtree\n./x type=file\n',
    ];
    for (const magic of others.map((text) =>
      Buffer.concat([Buffer.from(text, 'latin1'), Buffer.alloc(2000, 1)]),
    )) {
      const nested = spawnSync('/bin/gzip', ['-c'], { input: magic }).stdout;
      for (const layer of [magic, nested]) {
        await expect(rootOf(written(layer))).rejects.toMatchObject({
          code: 'TSVM_IMAGE',
        });
      }
    }
    expect(existsSync(join(bin, 'ran'))).toBe(false);
  });

  test('is within limits of files and of bytes, holes included', async () => {
    const within = async (entries: readonly TarEntry[]) => {
      await unpackLayers([layer(entries)], newPath(), { entries: 3, bytes: 1000 });
    };
    const file = (name: string, size: number) => ({ name, content: Buffer.alloc(size) });
    await within([file('a', 500), file('b', 500), file('c', 0)]);
    await expect(within([file('a', 500), file('b', 501)])).rejects.toThrow('"b": the image has more bytes');
    await expect(within([1, 2, 3, 4].map((i) => file(String(i), 0)))).rejects.toThrow('more files');
    const hole = { 'GNU.sparse.size': '1000000', 'GNU.sparse.numblocks': '0', 'GNU.sparse.map': '' };
    await expect(within([{ ...file('hole', 0), pax: hole }])).rejects.toThrow('more bytes');
  });

  test.each([2 ** 32 - 1, 2 ** 32, 2 ** 40])(
    'is refused if it gives a file to %d, which is nobody',
    async (uid) => {
      await expect(unpack([{ name: 'su', uid }])).rejects.toThrow(`the owner ${uid} of "su" is not`);
      await expect(unpack([{ name: 'su', pax: { uid: String(uid) } }])).rejects.toThrow(`the owner ${uid}`);
      await expect(unpack([{ name: 'su', pax: { gid: String(uid) } }])).rejects.toThrow(`the owner ${uid}`);
    },
  );

  test.each([
    ['no number as an owner', [{ name: 'a', pax: { uid: '-1' } }], 'is not a number'],
    ['a damaged pax header', [{ name: 'x', type: 'x', content: '99 path=a\n' }, { name: 'b' }], 'damaged'],
    ['a header that is too long', [{ name: 'x', type: 'x', size: 2 ** 30 }], 'too long'],
    ['less than it says', [{ name: 'a', size: 100_000 }], 'cut short'],
    [
      'a name that ends before it ends',
      [{ name: 'a', pax: { path: 'a\0b' } }],
      '"a\\u0000b" has a null character',
    ],
    ['a link to such a name', [{ name: 'a', type: '2', pax: { linkpath: '\0' } }], 'has a null character'],
    [
      'folders in folders without end',
      [{ name: 'x', pax: { path: `${'d/'.repeat(100_000)}f` } }],
      /: the name "(d\/){20}"\.\.\. has 200001 bytes, more than 3072$/,
    ],
    [
      'folders in folders that are many',
      [{ name: 'x', pax: { path: `${'d/'.repeat(256)}f` } }],
      /the name "(d\/){20}"\.\.\. has 257 parts, more than 256$/,
    ],
    [
      'a name that is too long in the older form',
      [{ name: 'l', type: 'L', content: `${'n'.repeat(250)}/`.repeat(13) }, { name: 'x' }],
      /has 3263 bytes, more than 3072$/,
    ],
    [
      'a link that is too long',
      [{ name: 'a', type: '2', pax: { linkpath: '../'.repeat(300) } }],
      /has 301 parts, more than 256$/,
    ],
  ])('with %s is refused', async (_, entries, message) => {
    await expect(unpack(entries)).rejects.toThrow(message);
  });

  test('has folders as deep as an image may have them, and what is left of them can be removed', async () => {
    const deep = `${'d'.repeat(11)}/`.repeat(255);
    const root = await unpack([{ name: 'x', pax: { path: `${deep}f` } }]);
    expect(existsSync(join(root, deep, 'f'))).toBe(true);
    rmSync(root, { recursive: true });
  });

  test('says nothing in the data of what has none', async () => {
    const hidden = tarOf([{ name: 'hidden', type: '4', numbers: [8, 0] }]);
    await expect(unpack([{ name: 'a', type: '2', link: 'b', content: hidden }])).resolves.toBeDefined();
    const sneaky = [
      { name: 'd/', type: '5', pax: { size: '512' } },
      { name: 'node', type: '4' },
    ];
    expect(namesIn(await unpack(sneaky))).toEqual(['d']);
    const named = { name: 'GNUSparseFile.0/x', content: 'x', pax: { 'GNU.sparse.name': 'dev/x' } };
    expect(namesIn(await unpack([named]))).toEqual([]);
  });
});

describe('layers', () => {
  test.each([
    ['no file can have', `d/.wh.${'x'.repeat(300)}`],
    ['no folder can have', `${'x'.repeat(300)}/.wh.x`],
    ['ends before it ends', 'd/.wh.a\0b'],
    ['ends before it ends, of a folder,', 'd\0/.wh.a'],
  ])('whose mark has a name that %s are refused by the name of theirs', async (_, path) => {
    const below = layer([{ name: 'd/', type: '5', mode: 0o755 }]);
    const above = layer([{ name: 'mark', pax: { path } }]);
    const unpacking = unpackLayers([below, above], newPath());
    await expect(unpacking).rejects.toThrow(above.path);
    await expect(unpacking).rejects.toMatchObject({ code: 'TSVM_IMAGE' });
  });

  test('are read once', async () => {
    const layers = ['a', 'b', 'c'].map((name) => layer([{ name }]));
    const reads = vi.spyOn(Blob.prototype, 'pieces');
    await unpackLayers(layers, newPath());
    const paths = reads.mock.contexts.map((blob) => (blob as Blob).path);
    reads.mockRestore();
    expect(layers.map(({ path }) => paths.filter((one) => one === path).length)).toEqual([1, 1, 1]);
  });
});

describe('Blob', () => {
  test('is what was opened, whatever its name leads to by then', async () => {
    const { path, digest } = layer([{ name: 'genuine', content: 'x' }]);
    await using blob = await Blob.open({ path, digest });
    for await (const _ of blob.pieces());
    renameSync(written(tarOf([{ name: 'poison' }])), path);
    expect((await blob.read(10_000)).subarray(0, 7).toString()).toBe('genuine');
    await expect(unpackLayers([{ path, digest }], newPath())).rejects.toThrow('does not have the digest');
  });

  test('that is written to after it was compared is refused when it is unpacked', async () => {
    const { path, digest } = layer([{ name: 'genuine', content: 'x' }]);
    await using blob = await Blob.open({ path, digest });
    for await (const _ of blob.pieces());
    writeFileSync(path, tarOf([{ name: 'poisons', content: 'x' }]));
    await expect(blob.read(10_000)).rejects.toThrow('does not have the digest');
  });

  test('is compared whole, also if its reader leaves the end', async () => {
    const bytes = Buffer.alloc(3 << 18, 'x');
    const path = written(bytes);
    const right = createHash('sha256').update(bytes).digest('hex');
    for (const [digest, refused] of [
      [right, false],
      ['0'.repeat(64), true],
    ] as const) {
      await using blob = await Blob.open({ path, digest: `sha256:${digest}` });
      for await (const _ of blob.pieces()) break;
      const compared = blob.finish().catch((error: Error) => error.message);
      if (refused) expect(await compared).toContain('does not have the digest');
      else expect(await compared).toBeUndefined();
    }
  });

  test('whose bytes have the right digest, and unpack to other ones than the image says, is refused', async () => {
    const bytes = tarOf([{ name: 'a', content: 'a' }]);
    const path = written(gzipSync(bytes));
    const sha256 = (of: Uint8Array) => `sha256:${createHash('sha256').update(of).digest('hex')}`;
    const digest = sha256(readFileSync(path));
    await unpackLayers([{ path, digest, diffId: sha256(bytes) }], newPath());
    await expect(unpackLayers([{ path, digest, diffId: digest }], newPath())).rejects.toThrow(
      `${path}: unpacked, it does not have the digest`,
    );
  });

  test('is a range of a file as well, and no byte around it', async () => {
    const bytes = tarOf([{ name: 'inner', content: 'x' }]);
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const path = written(Buffer.concat([Buffer.alloc(700, 'a'), bytes, Buffer.alloc(700, 'b')]));
    const place = { path, digest, start: 700, bytes: bytes.length, member: 'layer.tar' };
    const root = newPath();
    await unpackLayers([place], root);
    expect(namesIn(root)).toEqual(['inner']);
    await using blob = await Blob.open(place);
    expect(await blob.magic()).toEqual(bytes.subarray(0, 512));
    expect(await blob.read(bytes.length)).toEqual(bytes);
    await expect(blob.read(bytes.length - 1)).rejects.toThrow(`${path}: layer.tar: it is longer than`);
    for (const start of [701, 699]) {
      await expect(unpackLayers([{ ...place, start }], newPath())).rejects.toThrow(
        'does not have the digest',
      );
    }
    await expect(Blob.open({ ...place, bytes: 10_000 })).rejects.toThrow('it is cut short');
    await expect(Blob.open({ path, start: 10_000 })).rejects.toThrow('it is cut short');
  });

  test('is no FIFO, which would never be opened', async () => {
    const path = newPath();
    spawnSync('mkfifo', [path]);
    await expect(Blob.open({ path })).rejects.toThrow('it is not a file');
  });
});

describe('the store', () => {
  afterEach(() => void vi.restoreAllMocks());

  test('opens images though one that is not needed cannot be removed', async () => {
    const store = new ImageStore(newPath());
    mkdirSync(store.directory, { mode: 0o700 });
    for (let i = 0; i < 20; i++) {
      mkdirSync(join(store.directory, `old-${i}`));
      utimesSync(join(store.directory, `old-${i}`), i, i);
    }
    const remove = OwnFolder.prototype.remove;
    vi.spyOn(OwnFolder.prototype, 'remove').mockImplementation(function (this: OwnFolder, name) {
      if (name.includes('old-3-') || name.startsWith('.unpacking'))
        throw Object.assign(new Error(), { code: 'EPERM' });
      remove.call(this, name);
    });
    const root = await rootOf(written(tarOf([{ name: 'a', content: 'a' }])), store);
    expect(namesIn(root)).toEqual(['a']);
    const names = readdirSync(store.directory).filter((name) => name.includes('old-'));
    expect(names.filter((name) => name.startsWith('.'))).toEqual([expect.stringContaining('old-3-')]);
    expect(names.filter((name) => name.startsWith('old-'))).not.toContain('old-4');
    expect(names.length).toBeLessThanOrEqual(16);
  });

  test('takes no flag of a file that would keep it there', async ({ skip }) => {
    skip(notRoot() !== undefined, notRoot());
    const root = await unpack([{ name: 'imm', content: 'x', pax: { 'SCHILY.fflags': 'schg,sappnd' } }]);
    writeFileSync(join(root, 'imm'), 'y');
    expect(readFileSync(join(root, 'imm'), 'utf8')).toBe('y');
  });
});
