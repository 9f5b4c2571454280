/** Archives that nobody should have written: what the reader takes from them, and that it ends. */
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TsvmError } from '../../../src/errors.js';
import type { Limits } from '../../../src/image/tar/limits.js';
import { readTar } from '../../../src/image/tar/reader.js';
import type { DirectoryNode } from '../../../src/image/tree/tree.js';
import { budget, patience } from '../../support/fuzz.js';
import { LAYOUTS } from '../../support/image-layouts.js';
import { listing, MemorySink, treeOfArchives } from '../../support/memory-tree.js';
import { type TarEntry, tarOf } from '../../support/tar.js';

const LIMITS = { entries: 1000, bytes: 1 << 24, headerBytes: 1 << 20 };

/** Pieces of a length that no block has. */
async function* piecesOf(bytes: Uint8Array, length = 777): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function entriesOf(bytes: Uint8Array, limits: Limits = { ...LIMITS }) {
  const found = [];
  for await (const entry of readTar(piecesOf(bytes), limits)) {
    const data = Buffer.alloc(entry.kind === 'file' ? entry.sizeBytes : 0);
    for await (const { offset, bytes } of entry.data()) data.set(bytes, offset);
    found.push({ ...entry, content: data.toString('latin1') });
  }
  return found;
}
const one = async (entry: TarEntry) => (await entriesOf(tarOf([entry])))[0];
const sparse = (records: Record<string, string>, content: string) =>
  one({ name: 'GNUSparseFile.0/x', content, pax: records });

describe('readTar()', () => {
  test('keeps a user’s attributes, and a program’s capabilities', async () => {
    const entry = await one({
      name: 'a',
      pax: {
        'SCHILY.fflags': 'schg',
        'SCHILY.acl.access': 'user::rwx,user:nobody:rwx',
        'SCHILY.xattr.security.selinux': 's',
        'SCHILY.xattr.security.ima': 's',
        'SCHILY.xattr.system.posix_acl_access': 's',
        'SCHILY.xattr.trusted.overlay.redirect': 's',
        'SCHILY.xattr.user.overlay.redirect': 's',
        'LIBARCHIVE.xattr.trusted.overlay.opaque': 'eQ',
        'LIBARCHIVE.xattr.%75ser.overlay.opaque': 'eQ',
        'LIBARCHIVE.xattr.user.odd%20name': 'eQ',
        'RHT.security.selinux': 's',
        'SCHILY.xattr.user.kept': 'kept-value',
        'SCHILY.xattr.user.empty': '',
        'SCHILY.xattr.security.capability': 'capability-value',
      },
    });
    const kept = [...(entry?.xattrs ?? [])].map(([name, value]) => [name, Buffer.from(value).toString()]);
    expect(kept).toEqual([
      ['user.odd name', 'y'],
      ['user.kept', 'kept-value'],
      ['user.empty', ''],
      ['security.capability', 'capability-value'],
    ]);
    const long = { 'SCHILY.xattr.user.long': 'x'.repeat(70_000) };
    await expect(one({ name: 'a', pax: long })).rejects.toThrow('longer than Linux has any');
  });

  test('takes names in the order of pax, GNU and ustar, and a record without a value as none', async () => {
    const long = { name: 'long', type: 'L', content: 'long-name\0' };
    expect((await entriesOf(tarOf([long, { name: 'a' }])))[0]?.name).toBe('long-name');
    expect((await entriesOf(tarOf([long, { name: 'a', pax: { path: 'pax-name' } }])))[0]?.name).toBe(
      'pax-name',
    );
    expect((await one({ name: 'a', pax: { path: '', comment: '' } }))?.name).toBe('a');
    const global = { name: 'g', type: 'g', content: '19 path=global-name\n' };
    expect((await entriesOf(tarOf([global, { name: 'a' }])))[0]?.name).toBe('a');
  });

  test('reads times with fractions, also of before 1970', async () => {
    const timeOf = async (mtime: string) => (await one({ name: 'a', pax: { mtime } }))?.mtime;
    expect(await timeOf('12.5')).toEqual({ seconds: 12, nanoseconds: 500_000_000 });
    expect(await timeOf('-12.25')).toEqual({ seconds: -13, nanoseconds: 750_000_000 });
    expect(await timeOf('-62135596800')).toEqual({ seconds: -62_135_596_800, nanoseconds: 0 });
    expect(await timeOf('1.1234567899')).toEqual({ seconds: 1, nanoseconds: 123_456_789 });
    expect(await timeOf('soon')).toEqual({ seconds: 0, nanoseconds: 0 });
  });

  test.each([
    ['0.0', { 'GNU.sparse.numblocks': '1', 'GNU.sparse.offset': '3', 'GNU.sparse.numbytes': '2' }, 'ab'],
    ['0.1', { 'GNU.sparse.map': '3,2' }, 'ab'],
    ['1.0', { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0' }, `1\n3\n2\n${'\0'.repeat(506)}ab`],
  ])('reads sparse files of version %s', async (_, records, content) => {
    const entry = await sparse({ 'GNU.sparse.name': 'x', 'GNU.sparse.realsize': '8', ...records }, content);
    expect([entry?.name, entry?.content]).toEqual(['x', '\0\0\0ab\0\0\0']);
  });

  test.each([
    ['pieces beyond the end', { 'GNU.sparse.map': '7,2' }],
    ['less data than pieces', { 'GNU.sparse.map': '0,3' }],
    ['pieces over each other', { 'GNU.sparse.map': '0,1,0,1' }],
    ['an odd number', { 'GNU.sparse.map': '0,2,4' }],
    ['a length without an offset', { 'GNU.sparse.numbytes': '2' }],
    ['a map of rubbish', { 'GNU.sparse.major': '1' }],
  ])('refuses a map with %s', async (_, records) => {
    await expect(sparse({ 'GNU.sparse.realsize': '8', ...records }, 'ab')).rejects.toThrow(
      /the map of a sparse file of it is damaged|is not a number/,
    );
  });

  test('bounds headers, by their number and their content, and what follows the end', async () => {
    const header = (size: number) => ({ name: 'g', type: 'g', content: 'x'.repeat(size) });
    await expect(entriesOf(tarOf(Array.from({ length: 17 }, () => header(0))))).rejects.toThrow(
      'too many headers',
    );
    const entries = Array.from({ length: 9 }, (_, i) => [header(1000), { name: `f${i}` }]).flat();
    await expect(entriesOf(tarOf(entries), { ...LIMITS, headerBytes: 9000 })).resolves.toHaveLength(9);
    await expect(entriesOf(tarOf(entries), { ...LIMITS, headerBytes: 8999 })).rejects.toThrow(
      'more long names and attributes',
    );
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`SCHILY.xattr.user.${i}`, '']));
    await expect(
      entriesOf(tarOf([{ name: 'a', pax: many }]), { ...LIMITS, headerBytes: 8000 }),
    ).rejects.toThrow('more long names and attributes');
    const endless = async function* () {
      yield tarOf([]);
      for (;;) yield Buffer.alloc(1 << 20);
    };
    const reading = (async () => {
      for await (const _ of readTar(endless(), { ...LIMITS }));
    })();
    await expect(reading).rejects.toThrow('it goes on long after its end');
  });

  test('skips data that nobody reads', async () => {
    const names: string[] = [];
    const bytes = tarOf([{ name: 'a', content: 'x'.repeat(5000) }, { name: 'b' }]);
    for await (const entry of readTar(piecesOf(bytes), { ...LIMITS })) {
      for await (const _ of entry.data()) break;
      names.push(entry.name);
    }
    expect(names).toEqual(['a', 'b']);
  });

  test('a bomb of gzip that unpacks to nothing but headers or zeroes ends', async () => {
    const gzip = (bytes: Uint8Array) =>
      spawnSync('gzip', ['-c'], { input: bytes, maxBuffer: 1 << 28 }).stdout;
    const zeroes = gzip(Buffer.alloc(80 << 20));
    await expect(treeOfArchives([Buffer.concat([gzip(tarOf([])), zeroes])])).rejects.toThrow(
      'it goes on long after its end',
    );
    const headers = tarOf(Array.from({ length: 1000 }, (_, i) => ({ name: `f${i}` })));
    await expect(treeOfArchives([gzip(headers)], { entries: 999 })).rejects.toThrow('more files');
  });
});

describe('hostile archives', () => {
  const seeds = Object.values(LAYOUTS).map((layers) => layers.map((entries) => tarOf(entries)));
  /** Changes of bytes; a header's checksum is made right again, or hardly any would be read. */
  const mutations = fc.array(
    fc.record({ at: fc.nat(4095), byte: fc.oneof(fc.nat(255), fc.constantFrom(0x2f, 0x2e, 0x30, 0x80, 0)) }),
    { maxLength: 12 },
  );

  test('are refused by a TsvmError or become a tree, and come to an end', {
    timeout: patience(20_000),
  }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...seeds),
        fc.nat(3),
        mutations,
        fc.nat(2),
        async (layers, which, changes, cut) => {
          const archives = layers.map((bytes) => new Uint8Array(bytes));
          const archive = archives[which % archives.length] as Uint8Array<ArrayBuffer>;
          for (const { at, byte } of changes) archive[at % archive.length] = byte;
          for (let at = 0; at + 512 <= archive.length; at += 512) mend(archive.subarray(at, at + 512));
          if (cut === 0) archives[which % archives.length] = archive.subarray(0, archive.length / 2);
          const sink = new MemorySink();
          try {
            await treeOfArchives(archives, LIMITS, sink);
          } catch (error) {
            if (error instanceof TsvmError && error.code === 'TSVM_IMAGE') return;
            throw error;
          }
          expectPlainNames(sink);
        },
      ),
      budget(100, 20),
    );
  });

  test('never lead an entry out of the root', { timeout: patience(20_000) }, async () => {
    const folders = fc.array(fc.constantFrom('..', '.', '', 'a', 'l', 'dev', '.wh.a', '...'), {
      maxLength: 5,
    });
    const last = fc.constantFrom('a', 'b', 'l', '.wh.a', '.wh.l', '.wh..wh..opq');
    const name = fc.tuple(folders, last).map(([above, base]) => [...above, base].join('/'));
    // Few hard links: one to what is not there refuses all.
    const type = fc.constantFrom(...'0000222222555563'.split(''), '1');
    const entry = fc.record({
      name,
      type,
      link: fc.oneof(
        name,
        folders.map((all) => `${all.join('/')}/.`),
      ),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 12 }),
        fc.array(entry, { maxLength: 12 }),
        async (below, above) => {
          try {
            expectPlainNames(await treeOfArchives([tarOf(below), tarOf(above)]));
          } catch (error) {
            if (!(error instanceof TsvmError)) throw error;
          }
        },
      ),
      budget(60, 21),
    );
  });
});

/** Checks that each file has one name in each folder that it is in, and none that leads elsewhere. */
function expectPlainNames(sink: MemorySink): void {
  expect(() => listing(sink)).not.toThrow();
  const visit = (folder: DirectoryNode): void => {
    for (const [name, node] of folder.children) {
      expect(name).toMatch(/^(?!\.{1,2}$)[^/\0]+$/);
      if (node.kind === 'directory') visit(node);
    }
  };
  visit(sink.root as DirectoryNode);
}

/** Gives a block that may be a header the checksum that it needs. */
function mend(block: Uint8Array): void {
  if (!Buffer.from(block.subarray(257, 262)).equals(Buffer.from('ustar'))) return;
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
}
