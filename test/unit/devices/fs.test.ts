import { describe, expect, test } from 'vitest';
import { type FileSystem, fileError } from '../../../src/devices/fuse/file-system.js';
import { MemoryFileSystem } from '../../../src/devices/fuse/memory-file-system.js';
import { ERRNO, FUSE, O_TRUNC } from '../../../src/devices/fuse/protocol.js';
import { fsKind, share } from '../../../src/devices/virtio/fs.js';
import { bytes, entryOf, FuseClient } from '../../support/fuse-client.js';
import { settle } from '../../support/memory-disk.js';

const ROOT = 1;
const O_RDWR = 2;
/** Flags of renameat2(2). */
const [KEEP, EXCHANGE, WHITEOUT] = [1, 2, 4];

const client = (readOnly = false): FuseClient =>
  new FuseClient({
    fileSystem: new MemoryFileSystem({ a: 'hello', 'd/b': 'b', 'd/c': 'cc' }),
    readOnly,
  });

test('Fs tells its tag and number of queues (5.11.4)', () => {
  const { driver } = client().rig;
  const config = Buffer.from(Array.from({ length: 40 }, (_, offset) => driver.config(offset, 1)));
  expect(config.toString('latin1')).toBe(`tag${'\0'.repeat(33)}\x01\0\0\0`);
});

describe('FUSE_INIT', () => {
  test('is answered in the version of both, with the flags of both', async () => {
    const { errno, data } = await client().init();
    expect(errno).toBe(0);
    expect(data).toHaveLength(64);
    expect([data.readUInt32LE(0), data.readUInt32LE(4)]).toEqual([7, 38]);
    expect(data.readUInt32LE(12)).toBe(
      (1 << 0) | (1 << 3) | (1 << 5) | (7 << 12) | (1 << 15) | (1 << 18) | (1 << 22),
    );
    expect([data.readUInt32LE(20), data.readUInt16LE(28)]).toEqual([1 << 20, 256]);
  });

  test('of an old guest is refused', async () => {
    expect(await client().init(30)).toMatchObject({ errno: ERRNO['EPROTO'] });
  });
});

describe('a guest', () => {
  test('reads', async () => {
    const guest = client();
    const { id, size } = await guest.lookup(ROOT, 'a');
    expect(size).toBe(5);
    const { handle } = await guest.open(id);
    expect((await guest.read(handle, 0, 100)).data.toString()).toBe('hello');
    expect((await guest.read(handle, 3, 1)).data.toString()).toBe('l');
    expect((await guest.read(handle, 9, 1)).data).toHaveLength(0);
    expect(await guest.lookup(ROOT, 'none')).toMatchObject({ errno: ERRNO['ENOENT'] });
  });

  test('moves without replacing, and exchanges', async () => {
    const guest = client();
    const move = (flags: number, from: string, to: string) =>
      guest.call(FUSE.RENAME2, ROOT, bytes(1n, flags, 0, from, to));
    expect(await move(KEEP, 'a', 'd')).toMatchObject({ errno: ERRNO['EEXIST'] });
    expect(await move(EXCHANGE, 'a', 'none')).toMatchObject({ errno: ERRNO['ENOENT'] });
    expect(await move(WHITEOUT, 'a', 'x')).toMatchObject({ errno: ERRNO['EINVAL'] });
    expect(await move(EXCHANGE, 'a', 'd')).toMatchObject({ errno: 0 });
    expect((await guest.lookup(ROOT, 'd')).size).toBe(5);
    expect(await move(KEEP, 'd', 'new')).toMatchObject({ errno: 0 });
    expect((await guest.list(ROOT)).sort()).toEqual(['a', 'new']);
    expect(await client(true).call(FUSE.RENAME2, ROOT, bytes(1n, 0, 0, 'a', 'b'))).toMatchObject({
      errno: ERRNO['EROFS'],
    });
  });

  test('uses extended attributes, where a file system has them', async () => {
    const kept = new Map<string, Uint8Array>();
    const fileSystem: FileSystem = Object.assign(new MemoryFileSystem({ a: '' }), {
      setxattr: async (_: object, name: string, value: Uint8Array, how: string) => {
        if (how === 'create' && kept.has(name)) throw fileError('EEXIST');
        kept.set(name, value);
      },
      getxattr: async (_: object, name: string) => {
        const value = kept.get(name);
        if (value === undefined) throw fileError('ENODATA');
        return value;
      },
      listxattr: async () => [...kept.keys()],
      removexattr: async (_: object, name: string) => void kept.delete(name),
    });
    const guest = new FuseClient({ fileSystem });
    const set = (size: number, flags: number, rest: Uint8Array) =>
      guest.call(FUSE.SETXATTR, ROOT, bytes(size, flags, rest));
    expect(await set(3, 0, bytes('user.a', Buffer.from('abc')))).toMatchObject({ errno: 0 });
    expect(await set(3, 1, bytes('user.a', Buffer.from('abc')))).toMatchObject({ errno: ERRNO['EEXIST'] });
    expect(await set(0, 0, bytes('user.b'))).toMatchObject({ errno: 0 });
    // Lengths that do not fit, flags that there are not, no name, and more than Linux has.
    for (const bad of [
      bytes('user.a', Buffer.from('ab')),
      bytes('', Buffer.from('abc')),
      Buffer.from('user.a'),
    ])
      expect(await set(3, 0, bad)).toMatchObject({ errno: ERRNO['EINVAL'] });
    expect(await set(3, 3, bytes('user.a', Buffer.from('abc')))).toMatchObject({ errno: ERRNO['EINVAL'] });
    expect(await set(70_000, 0, bytes('user.a', new Uint8Array(70_000)))).toMatchObject({
      errno: ERRNO['E2BIG'],
    });
    const get = (size: number, name: string) => guest.call(FUSE.GETXATTR, ROOT, bytes(size, 0, name));
    expect((await get(0, 'user.a')).data.readUInt32LE(0)).toBe(3);
    expect((await get(100, 'user.a')).data.toString()).toBe('abc');
    expect(await get(2, 'user.a')).toMatchObject({ errno: ERRNO['ERANGE'] });
    expect(await get(2, 'user.none')).toMatchObject({ errno: ERRNO['ENODATA'] });
    const list = await guest.call(FUSE.LISTXATTR, ROOT, bytes(100, 0));
    expect(list.data.toString()).toBe('user.a\0user.b\0');
    expect(await guest.call(FUSE.REMOVEXATTR, ROOT, bytes('user.a'))).toMatchObject({ errno: 0 });
    expect([...kept.keys()]).toEqual(['user.b']);
    expect(await client().call(FUSE.GETXATTR, ROOT, bytes(9, 0, 'user.a'))).toMatchObject({
      errno: ERRNO['ENOSYS'],
    });
  });

  test('writes, makes, moves and removes', async () => {
    const guest = client();
    const made = await guest.call(FUSE.CREATE, ROOT, bytes(O_RDWR, 0o100644, 0, 0, 'new'));
    expect(made.errno).toBe(0);
    const handle = made.data.readBigUInt64LE(128);
    expect((await guest.write(handle, 3, 'xyz')).data.readUInt32LE(0)).toBe(3);
    expect((await guest.read(handle, 0, 10)).data.toString()).toBe('\0\0\0xyz');
    const folder = entryOf((await guest.call(FUSE.MKDIR, ROOT, bytes(0o755, 0, 'folder'))).data).id;
    expect(await guest.call(FUSE.RENAME, ROOT, bytes(BigInt(folder), 'new', 'old'))).toMatchObject({
      errno: 0,
    });
    expect(await guest.lookup(folder, 'old')).toMatchObject({ size: 6, mode: 0o100644 });
    expect(await guest.call(FUSE.RMDIR, ROOT, bytes('folder'))).toMatchObject({ errno: ERRNO['ENOTEMPTY'] });
    expect(await guest.call(FUSE.UNLINK, folder, bytes('old'))).toMatchObject({ errno: 0 });
    // What is open is there still.
    expect((await guest.read(handle, 3, 10)).data.toString()).toBe('xyz');
    expect(await guest.call(FUSE.RMDIR, ROOT, bytes('folder'))).toMatchObject({ errno: 0 });
    const link = await guest.call(FUSE.SYMLINK, ROOT, bytes('link', '../../target'));
    const target = await guest.call(FUSE.READLINK, entryOf(link.data).id, bytes());
    expect(target.data.toString()).toBe('../../target');
  });

  test.each([64, 100, 4096])('lists a folder %i bytes at a time', async (room) => {
    const guest = client();
    const { id } = await guest.lookup(ROOT, 'd');
    expect(await guest.list(id, room)).toEqual(['b', 'c']);
    expect(await guest.list(ROOT, room)).toEqual(['a', 'd']);
  });

  test('gets what READDIRPLUS lists with its attributes', async () => {
    const guest = client();
    const { data } = await guest.call(FUSE.OPENDIR, ROOT, bytes(0, 0));
    const listed = await guest.call(
      FUSE.READDIRPLUS,
      ROOT,
      bytes(data.readBigUInt64LE(0), 0n, 4096, 0, 0n, 0, 0),
    );
    expect(entryOf(listed.data)).toEqual({ id: 2, size: 5, mode: 0o100755 });
    const { id } = await guest.lookup(ROOT, 'a');
    expect(id).toBe(2);
  });

  test('opens a file to empty it', async () => {
    const guest = client();
    const { id } = await guest.lookup(ROOT, 'a');
    await guest.open(id, O_RDWR | O_TRUNC);
    expect(await guest.lookup(ROOT, 'a')).toMatchObject({ size: 0 });
  });

  test('may not change what is shared read-only, and may read it', async () => {
    const guest = client(true);
    const { id } = await guest.lookup(ROOT, 'a');
    const { handle } = await guest.open(id);
    expect((await guest.read(handle, 0, 10)).data.toString()).toBe('hello');
    const refused: [number, Uint8Array][] = [
      [FUSE.OPEN, bytes(O_RDWR, 0)],
      [FUSE.OPEN, bytes(O_TRUNC, 0)],
      [FUSE.CREATE, bytes(0, 0o644, 0, 0, 'x')],
      [FUSE.MKNOD, bytes(0o100644, 0, 0, 0, 'x')],
      [FUSE.MKDIR, bytes(0o755, 0, 'x')],
      [FUSE.SYMLINK, bytes('x', 'y')],
      [FUSE.LINK, bytes(BigInt(id), 'x')],
      [FUSE.UNLINK, bytes('a')],
      [FUSE.RMDIR, bytes('d')],
      [FUSE.RENAME, bytes(1n, 'a', 'x')],
      [FUSE.SETATTR, bytes(1, new Uint8Array(84))],
      [FUSE.WRITE, bytes(handle, 0n, 1, 0, 0n, 0, 0, 'x')],
      [FUSE.FALLOCATE, bytes(handle, 0n, 1n, 0, 0)],
    ];
    for (const [opcode, args] of refused)
      expect([opcode, (await guest.call(opcode, opcode === FUSE.OPEN ? id : ROOT, args)).errno]).toEqual([
        opcode,
        ERRNO['EROFS'],
      ]);
    expect(await guest.list(ROOT)).toEqual(['a', 'd']);
  });

  test.each<[string, string | Uint8Array, string]>([
    ['empty', '', 'EINVAL'],
    ['.', '.', 'EINVAL'],
    ['..', '..', 'EINVAL'],
    ['with a slash', 'd/b', 'EINVAL'],
    ['absolute', '/a', 'EINVAL'],
    ['without an end', Buffer.from('abc'), 'EINVAL'],
    ['that is not UTF-8', Buffer.from([0xff, 0xfe, 0]), 'EILSEQ'],
    ['too long', 'x'.repeat(256), 'ENAMETOOLONG'],
    ['far too long', 'x'.repeat(100_000), 'EINVAL'],
  ])('gets an error for a name that is %s', async (_, name, code) => {
    const guest = client();
    expect(await guest.call(FUSE.LOOKUP, ROOT, bytes(name))).toEqual({
      errno: ERRNO[code],
      data: Buffer.alloc(0),
    });
    expect(await guest.call(FUSE.MKDIR, ROOT, bytes(0o755, 0, name))).toMatchObject({ errno: ERRNO[code] });
  });

  test('gets errors for what it made up', async () => {
    const guest = client();
    expect(await guest.lookup(99, 'a')).toMatchObject({ errno: ERRNO['ESTALE'] });
    expect(await guest.read(99n, 0, 10)).toMatchObject({ errno: ERRNO['EBADF'] });
    expect(await guest.call(FUSE.READDIR, ROOT, bytes(99n, 0n, 100, 0, 0n, 0, 0))).toMatchObject({
      errno: ERRNO['EBADF'],
    });
    expect(await guest.call(99, ROOT, bytes())).toMatchObject({ errno: ERRNO['ENOSYS'] });
    // Linux asks no more then: nothing is kept back that a close(2) would have to wait for.
    expect(await guest.call(FUSE.FLUSH, ROOT, bytes(7n, 0, 0, 0n))).toMatchObject({ errno: ERRNO['ENOSYS'] });
    expect(await guest.call(FUSE.GETATTR, ROOT, bytes(0))).toMatchObject({ errno: ERRNO['EINVAL'] });
    expect(await guest.call(FUSE.MKNOD, ROOT, bytes(0o020666, 0x103, 0, 0, 'null'))).toMatchObject({
      errno: ERRNO['EPERM'],
    });
    const { handle } = await guest.open((await guest.lookup(ROOT, 'a')).id, O_RDWR);
    const beyond = bytes(handle, 0n, 1000, 0, 0n, 0, 0, 'x');
    expect(await guest.call(FUSE.WRITE, 0, beyond)).toMatchObject({ errno: ERRNO['EINVAL'] });
    expect(await guest.call(FUSE.READ, 0, bytes(handle, 1n << 60n, 1, 0, 0n, 0, 0))).toMatchObject({
      errno: ERRNO['EFBIG'],
    });
    expect(guest.rig.failures).toEqual([]);
  });

  test('that forgets a node can use it no more, and gets another', async () => {
    const guest = client();
    const { id } = await guest.lookup(ROOT, 'a');
    await guest.lookup(ROOT, 'a');
    await guest.forget(id, 1);
    expect(await guest.open(id)).toMatchObject({ errno: 0 });
    await guest.forget(id, 1);
    expect(await guest.open(id)).toMatchObject({ errno: ERRNO['ESTALE'] });
    expect((await guest.lookup(ROOT, 'a')).id).toBeGreaterThan(id);
    await guest.forget(99, 1);
    await guest.forget(ROOT, 1);
    expect((await guest.lookup(ROOT, 'a')).errno).toBe(0);
  });

  test('that leaves no room for an answer gets none', async () => {
    const guest = client();
    const short = guest.requests.add([Buffer.alloc(20)], [16]);
    const silent = guest.requests.add([guest.header(FUSE.LOOKUP, 1n, 2), bytes('a')], []);
    guest.requests.kick();
    await settle();
    expect(guest.requests.used()).toEqual([
      { head: short.head, length: 0 },
      { head: silent.head, length: 0 },
    ]);
  });
});

test('a guest has so many files open and no more', async () => {
  const guest = client();
  const { id } = await guest.lookup(ROOT, 'a');
  const handles = Array.from({ length: 4096 }, (_, i) => [i + 1, id, 0]);
  const full = client();
  full.device.restore({ version: 1, nextId: 3, nodes: [], nextHandle: 5000, handles } as never);
  expect(await full.open(1)).toMatchObject({ errno: ERRNO['ENFILE'] });
  expect(await full.call(FUSE.OPENDIR, ROOT, bytes(0, 0))).toMatchObject({ errno: ERRNO['ENFILE'] });
  await full.call(FUSE.RELEASE, 0, bytes(7n, 0, 0, 0n));
  expect(await full.call(FUSE.OPENDIR, ROOT, bytes(0, 0))).toMatchObject({ errno: 0 });
});

test('listings take so much memory and no more, and are read again', async () => {
  const many = Array.from({ length: 300_000 }, (_, i) => ({ name: `${i}`, ino: 1n, type: 0o100000 }));
  let reads = 0;
  const fileSystem = new MemoryFileSystem();
  fileSystem.readdir = async () => {
    reads++;
    return many;
  };
  const guest = new FuseClient({ fileSystem });
  const handles: bigint[] = [];
  for (let i = 0; i < 5; i++) {
    const { data } = await guest.call(FUSE.OPENDIR, ROOT, bytes(0, 0));
    handles.push(data.readBigUInt64LE(0));
  }
  const read = async (handle: bigint, offset: bigint): Promise<string> => {
    const { data } = await guest.call(FUSE.READDIR, ROOT, bytes(handle, offset, 32, 0, 0n, 0, 0), 32);
    return data.toString('utf8', 24, 24 + data.readUInt32LE(16));
  };
  for (const handle of handles) expect(await read(handle, 0n)).toBe('0');
  expect(reads).toBe(5);
  for (const handle of handles.slice(2)) expect(await read(handle, 9n)).toBe('9');
  expect(reads).toBe(5);
  expect(await read(handles[0] as bigint, 9n)).toBe('9');
  expect(reads).toBe(6);
});

test('Fs holds back requests while it is drained, and goes on', async () => {
  const guest = client();
  await guest.device.drain();
  const looking = guest.lookup(ROOT, 'a');
  await settle();
  expect(guest.requests.used()).toEqual([]);
  guest.device.resume();
  guest.device.notify();
  expect(await looking).toMatchObject({ errno: 0 });
});

describe('what a guest knows of a share', () => {
  const lookups = 3000;
  const state = {
    version: 1,
    nextId: lookups + 2,
    nodes: Array.from({ length: lookups }, (_, i) => [i + 2, 1, { path: String(i) }]),
    nextHandle: 1,
    handles: [],
  };

  test('is described in two million characters and no more', async () => {
    const description = { path: 'n'.repeat(4000) };
    const fileSystem = Object.assign(new MemoryFileSystem(), {
      recall: async () => ({}),
      describe: () => description,
    });
    const guest = new FuseClient({ fileSystem });
    guest.device.restore(state as never);
    expect((await guest.lookup(ROOT, 'none')).errno).toBe(ERRNO['ENOENT']);
    const { nodes } = guest.device.save() as unknown as { nodes: unknown[] };
    expect(nodes.length).toBeGreaterThan(400);
    expect(JSON.stringify(nodes).length).toBeLessThan((2 << 20) + nodes.length * 20);
  });

  test('is not looked for to the end when the guest is reset meanwhile, and all that was found is given back', async () => {
    let recalled = 0;
    let forgotten = 0;
    let closed = false;
    const fileSystem = Object.assign(new MemoryFileSystem(), {
      async recall() {
        recalled++;
        await settle();
        return {};
      },
      forget: (_: object, entries: number) => {
        forgotten += entries;
      },
      close: async () => {
        closed = true;
      },
    });
    const guest = new FuseClient({ fileSystem });
    guest.device.restore(state as never);
    const waiting = guest.lookup(ROOT, 'none').catch(() => {});
    await settle();
    await guest.device.close();
    expect(closed).toBe(true);
    expect(recalled).toBeLessThan(10);
    expect(forgotten).toBe(recalled);
    void waiting;
  });
});

test('a share with a file system of its own cannot be saved', () => {
  expect(share({ fileSystem: new MemoryFileSystem(), tag: 'x' }).config).toBeUndefined();
});

test.each([
  ['', /needs a path/],
  [':tag', /needs a path/],
  ['/a', /tag ''/],
  ['/a:', /tag ''/],
  [`/a:${'x'.repeat(37)}`, /is not 1 to 36/],
  ['/a:b c', /is not 1 to 36/],
  ['/a:b,rw', /unknown option 'rw'/],
])('fsKind.fromCli(%j) is refused', (text, message) => {
  expect(() => fsKind.fromCli(text)).toThrow(message);
});

test('fsKind.fromCli() takes PATH:TAG[,ro]', () => {
  const plain = { path: 'x', tag: 'y', readOnly: false, xattr: false };
  expect(fsKind.fromCli('/a:b:c,ro').config).toEqual({ ...plain, path: '/a:b', tag: 'c', readOnly: true });
  expect(fsKind.fromCli('x:y').config).toEqual(plain);
  expect(fsKind.fromCli('x:y,xattr').config).toEqual({ ...plain, xattr: true });
});
