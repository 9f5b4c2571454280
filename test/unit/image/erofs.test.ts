/** File systems of trees: what a kernel would show of them, and what fsck says. */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BlockFile } from '../../../src/image/tree/erofs/block-file.js';
import type { NodeFacts, TreeNode } from '../../../src/image/tree/tree.js';
import { shownContent } from '../../support/erofs.js';
import { directory, ErofsMaker, fifo, link } from '../../support/erofs-maker.js';
import { temporaryDirectory } from '../../support/guest.js';

const BLOCK = 4096;
const GIB = 2 ** 30;
const folder = temporaryDirectory();
let count = 0;
const begin = (key?: string): Promise<ErofsMaker> => ErofsMaker.begin(join(folder, `${count++}.erofs`), key);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('ErofsSink', () => {
  test('keeps owners, modes, times, links and attributes, whoever makes it', async () => {
    const maker = await begin();
    const facts: NodeFacts = {
      mode: 0o6751,
      uid: 4_294_967_294,
      gid: 65_536,
      mtimeSeconds: -62_135_596_800,
      mtimeNs: 999_999_999,
      xattrs: new Map([
        ['security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex')],
        ['user.long', Buffer.alloc(4000, 'x')],
        ['user.empty', Buffer.alloc(0)],
        ['system.posix_acl_access', Buffer.alloc(4)],
      ]),
    };
    const shadow = await maker.file('root:*', { mode: 0, mtimeSeconds: 2 ** 33 });
    const many = await maker.file('many', facts);
    many.names = 3;
    const hard = { ...link('/nowhere'), names: 2 };
    const { entries } = await maker.end(
      directory(
        [
          ['shadow', shadow],
          ['\xff \n\t', many],
          ['n'.repeat(255), many],
          ['!before the dot', directory([['many', many]], facts)],
          ['link', hard],
          ['hard', hard],
          ['long', link('l'.repeat(4095), facts)],
          ['fifo', fifo(facts)],
          ['empty', await maker.file('', facts)],
        ],
        facts,
      ),
    );
    const { xattrs, ...numbers } = facts;
    expect(entries.get('shadow')).toMatchObject({
      mode: 0,
      uid: 0,
      mtimeSeconds: 2 ** 33,
      content: 'root:*',
    });
    const odd = ['', '\xff \n\t', '!before the dot', 'long', 'fifo', 'empty'].map((name) =>
      entries.get(name),
    );
    for (const entry of odd) {
      expect(entry).toMatchObject(numbers);
      const kept = [...(entry?.xattrs ?? [])].map(([name, value]) => [name, sha256(value)]);
      const meant = [...xattrs].slice(0, 3).map(([name, value]) => [name, sha256(value)]);
      expect(kept).toEqual(meant);
    }
    const inodes = ['\xff \n\t', 'n'.repeat(255), '!before the dot/many'].map(
      (name) => entries.get(name)?.inode,
    );
    expect(new Set(inodes).size).toBe(1);
    expect(entries.get('n'.repeat(255))).toMatchObject({ links: 3, content: 'many' });
    expect(entries.get('hard')).toEqual(entries.get('link'));
    expect(entries.get('link')).toMatchObject({ kind: 'link', links: 2, content: '/nowhere' });
    expect(entries.get('long')?.content).toBe('l'.repeat(4095));
    expect(entries.get('fifo')).toMatchObject({ kind: 'fifo', links: 1, sizeBytes: 0 });
    expect(entries.get('empty')).toMatchObject({ kind: 'file', links: 1, sizeBytes: 0 });
    expect(entries.get('')).toMatchObject({ kind: 'directory', links: 3 });
  });

  test('puts all but short files at the start of a block, where machines map them', async () => {
    const maker = await begin();
    const sizes = [1, 2048, 2049, 4095, 4096, 4097, 3 * BLOCK + 5, 2 ** 21 + 1];
    const contents = sizes.map((size) => Buffer.alloc(size, `${size} `));
    const files: [string, TreeNode][] = [];
    for (const content of contents) files.push([String(content.length), await maker.file(content)]);
    const { entries } = await maker.end(directory(files));
    for (const content of contents) {
      expect(entries.get(String(content.length))).toMatchObject({
        layout: content.length <= 2048 ? 'inline' : 'blocks',
        content: shownContent(content),
      });
    }
  });

  /** Names of four characters: with `.` and `..`, 253 of them and one of nine fill a block. */
  const short = (length: number) => Array.from({ length }, (_, i) => `${i}`.padStart(4, '0'));
  test.each([
    ['nothing', [], 'inline'],
    ['exactly one block', [...short(253), 'x'.repeat(9)], 'blocks'],
    ['one block and one more byte', [...short(253), 'x'.repeat(10)], 'inline'],
    ['many blocks', short(4000), 'inline'],
    ['long names', short(100).map((name) => name.padEnd(255, 'x')), 'inline'],
  ])('finds every name in a folder of %s', async (_, names, layout) => {
    const maker = await begin();
    const { entries } = await maker.end(directory(names.map((name) => [name, fifo()])));
    expect(entries.size).toBe(names.length + 1);
    expect(entries.get('')?.layout).toBe(layout);
  });

  test('has 65,000 names of one file, and folders a thousand deep', async () => {
    const maker = await begin();
    const many = await maker.file('x'.repeat(3000));
    many.names = 65_000;
    let deep = directory();
    for (let i = 0; i < 1000; i++) deep = directory([['d', deep]]);
    const names = Array.from({ length: many.names }, (_, i): [string, TreeNode] => [`n${i}`, many]);
    const { entries } = await maker.end(directory([...names, ['deep', deep]]));
    expect(entries.get('n64999')).toMatchObject({ links: 65_000, content: 'x'.repeat(3000) });
    expect(entries.has(`deep${'/d'.repeat(1000)}`)).toBe(true);
  });

  test('leaves holes out', async () => {
    const maker = await begin();
    const word = (offset: number, text: string) => ({ offset, bytes: Buffer.from(text) });
    const sparse = {
      sizeBytes: 5 * GIB + 1,
      extents: [word(0, 'first'), word(3 * GIB + 7, 'mid'), word(5 * GIB, '!')],
    };
    const small = { sizeBytes: 3 * BLOCK, extents: [word(BLOCK + 1, 'x')] };
    const { entries } = await maker.end(
      directory([
        ['sparse', await maker.file(sparse)],
        ['small', await maker.file(small)],
        ['nothing', await maker.file({ sizeBytes: GIB, extents: [] })],
        ['tiny', await maker.file({ sizeBytes: 100, extents: [word(99, 'x')] })],
      ]),
    );
    expect(statSync(maker.path).size).toBeLessThan(1_000_000);
    const content = Buffer.alloc(3 * BLOCK);
    content[BLOCK + 1] = 0x78;
    expect(entries.get('small')).toMatchObject({ layout: 'chunks', content: shownContent(content) });
    const chunk = BLOCK << (entries.get('sparse')?.place ?? 0);
    const [first, middle] = [Buffer.alloc(chunk), Buffer.alloc(chunk)];
    first.write('first');
    middle.write('mid', (3 * GIB + 7) % chunk);
    expect(entries.get('sparse')).toMatchObject({
      sizeBytes: 5 * GIB + 1,
      content: shownContent(Buffer.concat([first, middle, Buffer.from('!')])),
    });
    expect(entries.get('nothing')).toMatchObject({ sizeBytes: GIB, content: '' });
    expect(entries.get('tiny')?.content).toBe(`${'\0'.repeat(99)}x`);
  });

  test('gives the blocks of a file without a name to others, without what was in them', async () => {
    const maker = await begin();
    const gone = await maker.file(Buffer.alloc(2 ** 22, 'secret'));
    const kept = await maker.file('k'.repeat(5000));
    maker.sink.drop(gone);
    const files: [string, TreeNode][] = [['kept', kept]];
    for (let i = 0; i < 200; i++) files.push([`f${i}`, await maker.file('f'.repeat(5000))]);
    const { entries } = await maker.end(directory(files));
    const image = readFileSync(maker.path);
    expect(image.length).toBeLessThan(2 ** 22 + 200_000);
    for (const [name] of files) {
      const start = (entries.get(name)?.place ?? 0) * BLOCK;
      const blocks = Buffer.concat([Buffer.alloc(5000, name[0]), Buffer.alloc(2 * BLOCK - 5000)]);
      expect(image.subarray(start, start + 2 * BLOCK).equals(blocks)).toBe(true);
    }
  });

  test('is the same for the same layers and key', async () => {
    const make = async (key: string) => {
      const maker = await begin(key);
      const files: [string, TreeNode][] = [];
      for (const size of [10, 3000, 70_000]) files.push([`${size}`, await maker.file('x'.repeat(size))]);
      const { uuid } = await maker.end(directory([...files, ['d', directory([['l', link('x')]])]]));
      return { uuid, digest: sha256(readFileSync(maker.path)) };
    };
    const first = await make('sha256-1');
    expect(await make('sha256-1')).toEqual(first);
    expect((await make('sha256-2')).uuid).not.toBe(first.uuid);
  });

  test.each([
    ['too long', 'user.x', 65_536],
    ['together too long', 'user.x', 65_530],
    ['named too long', `user.${'x'.repeat(256)}`, 0],
  ])('refuses attributes that are %s', async (_, name, length) => {
    const maker = await begin();
    const xattrs = new Map([[name, Buffer.alloc(length)]]);
    await expect(maker.file('', { xattrs })).rejects.toMatchObject({ code: 'TSVM_IMAGE' });
    await maker.close();
  });

  test('names the file that has no room', async () => {
    await using full = await open('/dev/full', 'r+');
    const file = new BlockFile('/images/root.erofs', full);
    await expect(file.write(0, Buffer.alloc(2 ** 21))).rejects.toMatchObject({
      code: 'TSVM_HOST',
      message: 'cannot write /images/root.erofs: no space left on the device',
    });
  });
});
