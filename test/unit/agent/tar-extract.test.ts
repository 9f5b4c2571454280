/** Archives of a guest's in a folder of the host's. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { extractTar } from '../../../src/agent/tar-extract.js';
import { TAR_END_BYTES, type TarFacts, tarHeader, tarPadding } from '../../../src/agent/tar-header.js';
import { TYPE } from '../../../src/image/tar/format.js';

interface Made extends Partial<Omit<TarFacts, 'name' | 'link'>> {
  readonly name: string | Buffer;
  readonly link?: string;
  readonly data?: string;
}

function* tar(...entries: readonly Made[]): Generator<Buffer> {
  for (const { name, link, data = '', ...facts } of entries) {
    const owned = { type: TYPE.file, mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 1000, nanoseconds: 5 } };
    const linked = link === undefined ? {} : { link: Buffer.from(link) };
    yield tarHeader({ ...owned, ...facts, ...linked, name: Buffer.from(name), size: data.length });
    yield Buffer.from(data);
    yield tarPadding(data.length);
  }
  yield Buffer.alloc(TAR_END_BYTES);
}

const stream = async function* (pieces: Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* pieces;
};

describe('an archive is unpacked on the host', () => {
  let top: string;
  let folder: string;
  beforeEach(() => {
    top = mkdtempSync(join(tmpdir(), 'tsvm-extract-'));
    folder = join(top, 'folder');
    mkdirSync(folder);
    mkdirSync(join(top, 'victim'));
  });
  afterEach(() => rmSync(top, { recursive: true, force: true }));
  const extract = (...entries: readonly Made[]) => extractTar(stream(tar(...entries)), folder);

  test('files, folders and links, without what gives rights', async () => {
    const odd = Buffer.from([0x61, 0x0a, 0xff]);
    const done = await extract(
      { name: 'd/', type: TYPE.directory, mode: 0o500 },
      { name: 'd/x', data: 'hello', mode: 0o4755 },
      { name: `d/${'n'.repeat(200)}`, data: 'long' },
      { name: odd, data: 'odd' },
      { name: 'd/hard', type: TYPE.hardLink, link: 'd/x' },
      { name: 'soft', type: TYPE.symbolicLink, link: '/etc/passwd' },
      { name: 'null', type: TYPE.characterDevice, device: 259 },
      { name: 'pipe', type: TYPE.fifo },
    );
    expect(done).toEqual({ entries: 8, bytes: 12, leftOut: 2 });
    expect(readdirSync(folder, 'buffer').map(String).sort()).toEqual([String(odd), 'd', 'soft'].sort());
    expect(statSync(join(folder, 'd/x')).mode & 0o7777).toBe(0o755);
    expect(statSync(join(folder, 'd')).mode & 0o7777).toBe(0o500);
    expect(statSync(join(folder, 'd/hard')).ino).toBe(statSync(join(folder, 'd/x')).ino);
    expect(readFileSync(join(folder, 'd', 'n'.repeat(200)), 'utf8')).toBe('long');
    expect(readlinkSync(join(folder, 'soft'))).toBe('/etc/passwd');
    expect(Math.floor(statSync(join(folder, 'd/x')).mtimeMs)).toBe(1_000_000);
  });

  test.each<[string, readonly Made[]]>([
    ['it leads out', [{ name: '../victim/x', data: 'x' }]],
    ['it leads out', [{ name: 'a/../../victim/x', data: 'x' }]],
    [
      'symbolic link',
      [
        { name: 'l', type: TYPE.symbolicLink, link: '../victim' },
        { name: 'l/x', data: 'x' },
      ],
    ],
    [
      'symbolic link',
      [
        { name: 'l', type: TYPE.symbolicLink, link: '../victim' },
        { name: 'l', type: TYPE.directory },
      ],
    ],
    [
      'what is no file',
      [
        { name: 'l', type: TYPE.symbolicLink, link: '../victim' },
        { name: 'h', type: TYPE.hardLink, link: 'l' },
      ],
    ],
    ['it leads out', [{ name: 'h', type: TYPE.hardLink, link: '../victim/secret' }]],
  ])('refused: %s', async (message, entries) => {
    writeFileSync(join(top, 'victim/secret'), 'secret');
    await expect(extract(...entries)).rejects.toThrow(message);
    expect(readdirSync(join(top, 'victim'))).toEqual(['secret']);
  });

  test('links that are there are not followed', async () => {
    symlinkSync('../victim', join(folder, 'l'));
    symlinkSync('../victim/x', join(folder, 'f'));
    await expect(extract({ name: 'l/x', data: 'x' })).rejects.toThrow('symbolic link');
    await extract({ name: 'f', data: 'mine' }, { name: '/absolute', data: 'below' });
    expect(readFileSync(join(folder, 'f'), 'utf8')).toBe('mine');
    expect(readFileSync(join(folder, 'absolute'), 'utf8')).toBe('below');
    expect(readdirSync(join(top, 'victim'))).toEqual([]);
  });

  test('no more than was allowed', async () => {
    const many = Array.from({ length: 10 }, (_, i) => ({ name: `${i}`, data: 'x'.repeat(100) }));
    await expect(extractTar(stream(tar(...many)), folder, { maxBytes: 500 })).rejects.toThrow('more bytes');
    await expect(extractTar(stream(tar(...many)), folder, { maxEntries: 5 })).rejects.toThrow('more files');
  });
});
