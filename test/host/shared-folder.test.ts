/** A shared folder with the addon's calls; the rest of it is tested without the addon. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { ERRNO, FUSE } from '../../src/devices/fuse/protocol.js';
import { openSharedFolder } from '../../src/host/shared-folder.js';
import { loadAddon } from '../../src/native/binding.js';
import { bytes, FuseClient } from '../support/fuse-client.js';
import { temporaryDirectory } from '../support/guest.js';
import { skipAll } from '../support/skip.js';
import { notHere } from '../support/skip-reasons.js';

const ROOT = 1;
const KEEP = 1;
const EXCHANGE = 2;
const addon = loadAddon();
const root = temporaryDirectory();
let count = 0;
let shared: string;

async function guestWith(xattr: boolean): Promise<FuseClient> {
  return new FuseClient({ fileSystem: await openSharedFolder(addon, shared, { xattr }) });
}

beforeEach(() => {
  shared = join(root, String(count++));
  mkdirSync(join(shared, 'd'), { recursive: true });
  writeFileSync(join(shared, 'a'), 'hello');
  symlinkSync('a', join(shared, 'link'));
});

test('SharedFolder.rename() does not replace, and exchanges', async () => {
  const guest = await guestWith(false);
  const a = await guest.lookup(ROOT, 'a');
  const d = await guest.lookup(ROOT, 'd');
  const move = (flags: number, from: string, to: string) =>
    guest.call(FUSE.RENAME2, ROOT, bytes(1n, flags, 0, from, to));
  expect(await move(KEEP, 'a', 'd')).toMatchObject({ errno: ERRNO['EEXIST'] });
  expect(await move(EXCHANGE, 'a', 'none')).toMatchObject({ errno: ERRNO['ENOENT'] });
  expect(await move(EXCHANGE, 'a', 'd')).toMatchObject({ errno: 0 });
  expect(readFileSync(join(shared, 'd'), 'utf8')).toBe('hello');
  // Both are known still, by the names that they have now.
  expect([(await guest.lookup(ROOT, 'd')).id, (await guest.lookup(ROOT, 'a')).id]).toEqual([a.id, d.id]);
  expect((await guest.read((await guest.open(a.id)).handle, 0, 9)).data.toString()).toBe('hello');
  expect(await move(KEEP, 'd', 'new')).toMatchObject({ errno: 0 });
  expect(readFileSync(join(shared, 'new'), 'utf8')).toBe('hello');
  await guest.device.close();
});

/** Reason why this machine's temporary folder cannot have them, if it cannot. */
async function xattrProblem(): Promise<string | undefined> {
  const folder = await openSharedFolder(addon, root, { xattr: true });
  return await folder
    .setxattr(folder.root, 'user.probe', new Uint8Array(1), 'set')
    .then(
      () => undefined,
      (error: Error) => notHere(error.message),
    )
    .finally(() => folder.close());
}

const problem = await xattrProblem();

describe('extended attributes', () => {
  skipAll(problem);

  test('are set, read, listed and removed, those of users only', async () => {
    const guest = await guestWith(true);
    const { id } = await guest.lookup(ROOT, 'a');
    const set = (node: number, name: string, value: string, flags = 0) =>
      guest.call(FUSE.SETXATTR, node, bytes(value.length, flags, name, Buffer.from(value)));
    const get = (name: string, size: number) => guest.call(FUSE.GETXATTR, id, bytes(size, 0, name));
    expect(await set(id, 'user.one', 'value')).toMatchObject({ errno: 0 });
    expect(await set(id, 'user.one', 'again', 1)).toMatchObject({ errno: ERRNO['EEXIST'] });
    expect(await set(id, 'user.two', 'x', 2)).toMatchObject({ errno: ERRNO['ENODATA'] });
    expect((await get('user.one', 100)).data.toString()).toBe('value');
    expect((await guest.call(FUSE.LISTXATTR, id, bytes(100, 0))).data.toString()).toBe('user.one\0');
    for (const name of ['security.capability', 'trusted.x', 'system.posix_acl_access'])
      expect(await set(id, name, 'x'), name).toMatchObject({ errno: ERRNO['EOPNOTSUPP'] });
    expect(await guest.call(FUSE.REMOVEXATTR, id, bytes('user.one'))).toMatchObject({ errno: 0 });
    expect(await get('user.one', 100)).toMatchObject({ errno: ERRNO['ENODATA'] });
    // A link's would be those of what it points to.
    const link = await guest.lookup(ROOT, 'link');
    expect(await set(link.id, 'user.one', 'x')).toMatchObject({ errno: ERRNO['EPERM'] });
    expect((await guest.call(FUSE.LISTXATTR, link.id, bytes(100, 0))).data).toHaveLength(0);
    await guest.device.close();
  });

  test('are not there without the option', async () => {
    const guest = await guestWith(false);
    const { id } = await guest.lookup(ROOT, 'a');
    expect(await guest.call(FUSE.GETXATTR, id, bytes(9, 0, 'user.a'))).toMatchObject({
      errno: ERRNO['ENOSYS'],
    });
    await guest.device.close();
  });
});
