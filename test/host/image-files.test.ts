/** Directories of images, as far as they need the addon: attributes, pipes, exact times. */
import { lstatSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { unpackLayers } from '../../src/image/unpack.js';
import { loadAddon } from '../../src/native/binding.js';
import { temporaryDirectory } from '../support/guest.js';
import { listXattrs } from '../support/list-xattrs.js';
import { notHere, notRoot } from '../support/skip-reasons.js';
import { type TarEntry, tarOf } from '../support/tar.js';

const folder = temporaryDirectory();
const unpack = async (name: string, entries: readonly TarEntry[]): Promise<string> => {
  writeFileSync(join(folder, `${name}.tar`), tarOf(entries));
  await unpackLayers([{ path: join(folder, `${name}.tar`) }], join(folder, name));
  return join(folder, name);
};
/** Reason for which there are no attributes to be seen, or undefined: tmpfs has them from Linux 6.6 on. */
function noAttributes(): string | undefined {
  try {
    loadAddon().setXattr(Buffer.from(folder), Buffer.from('user.tsvm'), Buffer.alloc(1));
    return undefined;
  } catch {
    return notHere('the file system of temporary files has no attributes');
  }
}

test('attributes of a user are kept, of read-only files and folders too', async ({ skip }) => {
  skip(noAttributes() !== undefined, noAttributes());
  const pax = { 'SCHILY.xattr.user.k': 'v', 'SCHILY.xattr.trusted.overlay.opaque': 'y' };
  const root = await unpack('user', [
    { name: 'd', type: '5', mode: 0o555, pax },
    { name: 'd/f', mode: 0, pax: { ...pax, 'LIBARCHIVE.xattr.user.odd%20name': 'AQID' } },
    { name: 'd/l', type: '2', link: 'f', pax },
  ]);
  expect(listXattrs(root)).toEqual({
    d: { 'user.k': '76' },
    'd/f': { 'user.k': '76', 'user.odd name': '010203' },
  });
});

test('capabilities are kept for the superuser, also of another owner', async ({ skip }) => {
  skip(notRoot() !== undefined, notRoot());
  const capability = '\u0001\0\0\u0002\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0';
  const root = await unpack('capability', [
    {
      name: 'ping',
      mode: 0o4755,
      uid: 7,
      content: 'x',
      pax: { 'SCHILY.xattr.security.capability': capability },
    },
  ]);
  const hex = Buffer.from(capability, 'latin1').toString('hex');
  expect(listXattrs(root)).toEqual({ ping: { 'security.capability': hex } });
  expect([lstatSync(join(root, 'ping')).mode & 0o7777, lstatSync(join(root, 'ping')).uid]).toEqual([
    0o4755, 7,
  ]);
});

test('pipes are pipes, and times have nanoseconds, before 1970 too', async () => {
  const root = await unpack('pipe', [
    { name: 'd', type: '5', mode: 0o755, pax: { mtime: '1700000000.123456789' } },
    { name: 'd/pipe', type: '6', mode: 0o640 },
    { name: 'd/file', pax: { mtime: '-1.5' } },
    { name: 'd/link', type: '2', link: 'x', pax: { mtime: '1.000000001' } },
    { name: 'd/old', pax: { mtime: '-86400' } },
  ]);
  const nanoseconds = (name: string) => lstatSync(join(root, name), { bigint: true }).mtimeNs;
  expect(lstatSync(join(root, 'd/pipe')).isFIFO()).toBe(true);
  expect(lstatSync(join(root, 'd/pipe')).mode & 0o7777).toBe(0o640);
  expect(['d', 'd/file', 'd/link', 'd/old'].map(nanoseconds)).toEqual([
    1_700_000_000_123_456_789n,
    -1_500_000_000n,
    1_000_000_001n,
    -86_400_000_000_000n,
  ]);
});
