/** A folder of the host's, by way of the device: what a guest can do to it, and what not. */
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FileAttributes, FileOwner } from '../../src/devices/backends/file-system.js';
import { ERRNO, FUSE } from '../../src/devices/fs/protocol.js';
import type { FolderNode } from '../../src/host/fs/folder-node.js';
import { openSharedFolder, type SharedFolder } from '../../src/host/fs/shared-folder.js';
import { loadAddon } from '../../src/native/binding.js';
import { bytes, entryOf, FuseClient } from '../support/fuse-client.js';
import { openFiles } from '../support/scratch-addon.js';

const ROOT = 1;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const isRoot = process.geteuid?.() === 0;

let outside: string;
let shared: string;
let folder: SharedFolder;
let guest: FuseClient;

const addon = loadAddon();
const open = (): Promise<SharedFolder> => openSharedFolder(addon, shared);

beforeEach(async () => {
  outside = realpathSync(mkdtempSync(join(tmpdir(), 'tsvm-share-')));
  shared = join(outside, 'shared');
  mkdirSync(join(shared, 'd'), { recursive: true });
  writeFileSync(join(outside, 'secret'), 'secret');
  writeFileSync(join(shared, 'a'), 'hello');
  folder = await open();
  guest = new FuseClient({ fileSystem: folder });
});

afterEach(async () => {
  await guest.device.close();
  expect(openFiles().filter((path) => path.startsWith(outside))).toEqual([]);
  rmSync(outside, { recursive: true });
});

const create = async (
  parent: number,
  name: string,
  mode = 0o644,
): Promise<{ id: number; handle: bigint }> => {
  const { errno, data } = await guest.call(FUSE.CREATE, parent, bytes(O_RDWR, 0o100000 | mode, 0, 0, name));
  expect(errno).toBe(0);
  return { id: entryOf(data).id, handle: data.readBigUInt64LE(128) };
};

describe('a guest', () => {
  test('makes what is there on the host, with the mode and the user it says', async () => {
    const { id, handle } = await create(ROOT, 'new', 0o666);
    await guest.write(handle, 0, 'content');
    expect(readFileSync(join(shared, 'new'), 'utf8')).toBe('content');
    expect(statSync(join(shared, 'new')).mode & 0o7777).toBe(0o666);
    if (isRoot) expect(statSync(join(shared, 'new'))).toMatchObject({ uid: 1000, gid: 1001 });
    await guest.call(FUSE.MKDIR, ROOT, bytes(0o1777, 0, 'dir'));
    expect(statSync(join(shared, 'dir')).mode & 0o7777).toBe(0o1777);
    await guest.call(FUSE.SYMLINK, ROOT, bytes('link', '/etc/passwd'));
    expect(readlinkSync(join(shared, 'link'))).toBe('/etc/passwd');
    expect((await guest.call(FUSE.LINK, ROOT, bytes(BigInt(id), 'hard'))).errno).toBe(0);
    expect(statSync(join(shared, 'hard')).nlink).toBe(2);
    const setattr = (valid: number, fields: { size?: bigint; mtime?: bigint; mode?: number }) =>
      guest.call(
        FUSE.SETATTR,
        id,
        bytes(
          valid,
          0,
          0n,
          fields.size ?? 0n,
          0n,
          0n,
          fields.mtime ?? 0n,
          0n,
          0,
          5e8,
          0,
          fields.mode ?? 0,
          0,
          0,
          0,
          0,
        ),
      );
    await setattr((1 << 3) | (1 << 5), { size: 3n, mtime: 981_173_106n });
    expect(statSync(join(shared, 'new'))).toMatchObject({ size: 3, mtimeMs: 981_173_106_500 });
    await setattr(1, { mode: 0o6755 });
    expect(statSync(join(shared, 'new')).mode & 0o7777).toBe(0o755);
    await guest.call(FUSE.RENAME, ROOT, bytes(1n, 'hard', 'soft'));
    await guest.call(FUSE.UNLINK, ROOT, bytes('new'));
    expect(readdirSync(shared).sort()).toEqual(['a', 'd', 'dir', 'link', 'soft']);
    expect((await guest.call(FUSE.STATFS, ROOT, bytes())).data.readBigUInt64LE(0)).toBeGreaterThan(0n);
  });

  test.each(['file', 'node', 'folder', 'link'])(
    'makes a %s that has its owner and mode from the start, whatever this process’s umask',
    async (kind) => {
      const make = async (name: string, mode: number, owner: FileOwner): Promise<FileAttributes> => {
        if (kind === 'link') return (await folder.symlink(folder.root, name, 'a', owner)).attributes;
        if (kind === 'folder') return (await folder.mkdir(folder.root, name, mode, owner)).attributes;
        if (kind === 'node') return (await folder.mknod(folder.root, name, mode, owner)).attributes;
        const { file, attributes } = await folder.create(folder.root, name, O_RDWR, mode, owner);
        await folder.release(file);
        return attributes;
      };
      const umask = process.umask(0o027);
      try {
        const owner = { uid: 1000, gid: 1001 };
        const made = await make('made', 0o757, owner);
        expect(made.mode & 0o7777).toBe(kind === 'link' ? 0o777 : 0o757);
        if (isRoot) expect(made).toMatchObject(owner);
        expect(lstatSync(join(shared, 'made'))).toMatchObject({ mode: made.mode, uid: made.uid });
        // Nobody else's files are made under another umask than this process has.
        expect(process.umask()).toBe(0o027);
      } finally {
        process.umask(umask);
      }
    },
  );

  test('makes nothing setuid, and no device', async () => {
    await create(ROOT, 'suid', 0o6755);
    expect(statSync(join(shared, 'suid')).mode & 0o7777).toBe(0o755);
    const { errno } = await guest.call(FUSE.MKNOD, ROOT, bytes(0o020666, 0x103, 0, 0, 'null'));
    expect(errno).toBe(ERRNO['EPERM']);
    expect(existsSync(join(shared, 'null'))).toBe(false);
  });

  test('uses what it has open after it was unlinked, and what it knows after it was moved', async () => {
    const { id, handle } = await create(ROOT, 'gone');
    await guest.write(handle, 0, 'still here');
    await guest.call(FUSE.UNLINK, ROOT, bytes('gone'));
    expect((await guest.read(handle, 0, 100)).data.toString()).toBe('still here');
    expect((await guest.call(FUSE.GETATTR, id, bytes(0, 0, 0n))).errno).toBe(0);
    const moved = await guest.lookup(ROOT, 'a');
    renameSync(join(shared, 'a'), join(shared, 'd', 'b'));
    const { handle: reading } = await guest.open(moved.id);
    expect((await guest.read(reading, 0, 100)).data.toString()).toBe('hello');
  });

  test('finds two names of one file to be one', async () => {
    linkSync(join(shared, 'a'), join(shared, 'b'));
    expect((await guest.lookup(ROOT, 'b')).id).toBe((await guest.lookup(ROOT, 'a')).id);
  });

  test('lists a folder of many', async () => {
    for (let i = 0; i < 500; i++) writeFileSync(join(shared, 'd', `file${i}`), '');
    const { id } = await guest.lookup(ROOT, 'd');
    expect((await guest.list(id)).sort()).toEqual(['.', '..', ...readdirSync(join(shared, 'd'))].sort());
  });

  test('may know more files than there are descriptors for', { timeout: 60_000 }, async () => {
    for (let i = 0; i < 1200; i++) writeFileSync(join(shared, 'd', `file${i}`), `${i}`);
    const { node } = await folder.lookup(folder.root, 'd');
    const nodes: FolderNode[] = [];
    for (let first = 0; first < 1200; first += 50) {
      const names = Array.from({ length: 50 }, (_, i) => `file${first + i}`);
      const entries = await Promise.all(names.map((name) => folder.lookup(node, name)));
      nodes.push(...entries.map((entry) => entry.node));
    }
    expect(openFiles().filter((path) => path.startsWith(shared)).length).toBeLessThan(1100);
    renameSync(join(shared, 'd'), join(shared, 'e'));
    await folder.lookup(folder.root, 'e');
    mkdirSync(join(shared, 'd'));
    writeFileSync(join(shared, 'd', 'file0'), 'other');
    for (const i of [0, 1, 700, 1199]) {
      const file = await folder.open(nodes[i] as FolderNode, 0);
      const content = Buffer.alloc(10);
      expect(content.toString('utf8', 0, await folder.read(file, [content], 0))).toBe(`${i}`);
      await folder.release(file);
    }
  });
});

describe('a guest does not get out', () => {
  test('by a link, whatever it points to: the host never follows one', async () => {
    symlinkSync(join(outside, 'secret'), join(shared, 'out'));
    symlinkSync('..', join(shared, 'up'));
    const out = await guest.lookup(ROOT, 'out');
    expect(out.mode & 0o170000).toBe(0o120000);
    expect(await guest.open(out.id)).toMatchObject({ errno: ERRNO['ENXIO'] });
    expect((await guest.call(FUSE.CREATE, ROOT, bytes(O_WRONLY, 0o644, 0, 0, 'out'))).errno).toBe(
      ERRNO['ENXIO'],
    );
    const up = await guest.lookup(ROOT, 'up');
    expect(await guest.lookup(up.id, 'secret')).toMatchObject({ errno: ERRNO['ENOTDIR'] });
    const setattr = bytes(1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o777, 0, 0, 0, 0);
    expect((await guest.call(FUSE.SETATTR, out.id, setattr)).errno).toBe(ERRNO['EOPNOTSUPP']);
    expect((await guest.call(FUSE.SETATTR, out.id, bytes(8, new Uint8Array(84)))).errno).toBe(
      ERRNO['EINVAL'],
    );
    expect(readFileSync(join(outside, 'secret'), 'utf8')).toBe('secret');
  });

  test('when a folder it is in becomes a link on the host', async () => {
    const { id } = await guest.lookup(ROOT, 'd');
    rmSync(join(shared, 'd'), { recursive: true });
    symlinkSync(outside, join(shared, 'd'));
    expect(await guest.lookup(id, 'secret')).toMatchObject({ errno: ERRNO['ENOENT'] });
    const again = await guest.lookup(ROOT, 'd');
    expect(again.mode & 0o170000).toBe(0o120000);
    expect(await guest.lookup(again.id, 'secret')).toMatchObject({ errno: ERRNO['ENOTDIR'] });
  });

  test('when a folder that it made is replaced while it is being made', async () => {
    // Many times, for it is a race.
    let stop = false;
    const racing = (async () => {
      while (!stop) {
        try {
          rmSync(join(shared, 'race'), { recursive: true, force: true });
          symlinkSync(outside, join(shared, 'race'));
          unlinkSync(join(shared, 'race'));
        } catch {
          // the guest was faster
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const before = lstatSync(outside);
    for (let i = 0; i < 50; i++) {
      const made = await guest.call(FUSE.MKDIR, ROOT, bytes(0o777, 0, 'race'));
      if (made.errno === 0) await guest.call(FUSE.MKDIR, entryOf(made.data).id, bytes(0o777, 0, 'inside'));
    }
    stop = true;
    await racing;
    expect(lstatSync(outside)).toMatchObject({ mode: before.mode, uid: before.uid });
    expect(existsSync(join(outside, 'inside'))).toBe(false);
  });

  test('by moving the folder it is in out of the share: it stays in there, and no further', async () => {
    const { id } = await guest.lookup(ROOT, 'd');
    renameSync(join(shared, 'd'), join(outside, 'moved'));
    expect(await guest.lookup(id, '..')).toMatchObject({ errno: ERRNO['EINVAL'] });
  });
});

describe('a restored guest', () => {
  async function restored(): Promise<FuseClient> {
    const state = JSON.parse(JSON.stringify(guest.device.save()));
    await guest.device.close();
    guest = new FuseClient({ fileSystem: await open() });
    guest.device.restore(state);
    return guest;
  }

  test('goes on with the files that it has open, and knows the ones it knew', async () => {
    const { id, handle } = await create((await guest.lookup(ROOT, 'd')).id, 'log');
    await guest.write(handle, 0, 'before ');
    await restored();
    expect((await guest.write(handle, 7, 'after')).errno).toBe(0);
    expect(readFileSync(join(shared, 'd', 'log'), 'utf8')).toBe('before after');
    const { id: folderId } = await guest.lookup(ROOT, 'd');
    expect((await guest.lookup(folderId, 'log')).id).toBe(id);
  });

  test('that may only read now reads on in what it had open for writing, and opens nothing to write', async () => {
    const { id } = await guest.lookup(ROOT, 'a');
    const { handle } = await guest.open(id, O_RDWR);
    const state = JSON.parse(JSON.stringify(guest.device.save()));
    await guest.device.close();
    const opened: number[] = [];
    const fileSystem = await open();
    const reallyOpen = fileSystem.open.bind(fileSystem);
    fileSystem.open = (node, flags, user) => {
      opened.push(flags);
      return reallyOpen(node, flags, user);
    };
    guest = new FuseClient({ fileSystem, readOnly: true });
    guest.device.restore(state);
    expect((await guest.read(handle, 0, 1)).errno).toBe(0);
    expect((await guest.write(handle, 0, 'x')).errno).toBe(ERRNO['EROFS']);
    expect(opened).toEqual([0]);
  });

  test('gets ESTALE for what is not there any more, or another', async () => {
    const gone = await create(ROOT, 'gone');
    const other = await guest.lookup(ROOT, 'a');
    chmodSync(join(shared, 'a'), 0o600);
    await restored();
    unlinkSync(join(shared, 'gone'));
    renameSync(join(shared, 'a'), join(shared, 'z'));
    writeFileSync(join(shared, 'a'), 'another');
    await restored();
    expect(await guest.open(other.id)).toMatchObject({ errno: ERRNO['ESTALE'] });
    expect((await guest.read(gone.handle, 0, 1)).errno).toBe(ERRNO['ESTALE']);
  });

  test.each([
    ['a path that leads out', [[2, 1, { path: ['..', 'secret'], dev: '1', ino: '1' }]]],
    ['a path with a slash', [[2, 1, { path: ['../secret'], dev: '1', ino: '1' }]]],
    ['no path', [[2, 1, {}]]],
    ['a number', [[2, 1, 7]]],
  ])('is not trusted: %s', async (_, nodes) => {
    guest.device.restore({ version: 1, nextId: 3, nodes, nextHandle: 1, handles: [] } as never);
    expect(await guest.open(2)).toMatchObject({ errno: ERRNO['ESTALE'] });
  });

  test.each([
    ['a node ID of the root', { nodes: [[1, 1, {}]] }],
    ['a node ID that comes later', { nodes: [[9, 1, {}]] }],
    ['lookups below zero', { nodes: [[2, -1, {}]] }],
    ['nodes that are none', { nodes: {} }],
    ['a handle of a text', { handles: [['1', 2, 0]] }],
    ['a handle that comes later', { handles: [[7, 2, 0]] }],
    ['a handle that empties its file', { handles: [[1, 2, O_TRUNC]] }],
    ['a handle that makes its file', { handles: [[1, 2, O_CREAT]] }],
    ['a handle with flags that no handle has', { handles: [[1, 2, 2 ** 32 + O_TRUNC]] }],
    ['a handle with flags below zero', { handles: [[1, 2, -1]] }],
  ])('is refused: %s', (_, part) => {
    const state = { version: 1, nextId: 3, nodes: [], nextHandle: 2, handles: [], ...part };
    expect(() => guest.device.restore(state as never)).toThrow(/saved state is not valid: fs/);
  });
});

test.each([
  ['is not there', 'none', /no such file/],
  ['is a file', 'a', /it is not a folder/],
])('a folder that %s is named', async (_, name, message) => {
  await expect(openSharedFolder(addon, join(shared, name))).rejects.toMatchObject({
    code: 'TSVM_SHARE',
    message: expect.stringMatching(message),
    hint: expect.any(String),
  });
});
