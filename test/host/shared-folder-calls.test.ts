/** System calls of a guest in a share, as its kernel sends them: what comes of each is what virtiofsd makes of it. */
import {
  appendFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ERRNO, FUSE } from '../../src/devices/fs/protocol.js';
import { bytes, direntsOf, entryOf } from '../support/fuse-client.js';
import { O_RDWR, ROOT, ShareGuest } from '../support/share-guest.js';
import { missing } from '../support/skip-reasons.js';

const O_APPEND = 0o2000;
const O_EXCL = 0o200;
const WRITE_CACHE = 1;
/** struct fuse_entry_out. */
const ENTRY_BYTES = 128;
const NOREPLACE = 1;
const WHITEOUT = 4;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

let guest: ShareGuest;

beforeEach(async () => {
  guest = await ShareGuest.open();
});
afterEach(() => guest.close());

const write = async (
  handle: bigint,
  offset: number,
  data: string,
  { how = 0, flags = 0 } = {},
): Promise<void> => {
  const fields = bytes(handle, BigInt(offset), data.length, how, 0n, flags, 0, Buffer.from(data));
  expect((await guest.call(FUSE.WRITE, 0, fields)).errno).toBe(0);
};

test('a page that was mapped of a file opened to append is written back where it belongs', async () => {
  writeFileSync(guest.at('log'), 'hello\n');
  const { id } = await guest.lookup(ROOT, 'log');
  const { handle } = await guest.open(id, O_RDWR | O_APPEND);
  await write(handle, 0, 'J', { how: WRITE_CACHE, flags: O_RDWR | O_APPEND });
  expect(readFileSync(guest.at('log'), 'utf8')).toBe('Jello\n');
  // write(2) appends, though the guest does not know yet that the file has grown on the host.
  appendFileSync(guest.at('log'), 'host\n');
  await write(handle, 6, 'guest\n', { flags: O_RDWR | O_APPEND });
  expect(readFileSync(guest.at('log'), 'utf8')).toBe('Jello\nhost\nguest\n');
});

test('O_TMPFILE makes a file without a name, which linkat(2) gives one', async ({ skip }) => {
  const made = await guest.create(ROOT, '#1', { opcode: FUSE.TMPFILE });
  if (made.errno === ERRNO['EOPNOTSUPP']) skip(missing('a temporary folder on a file system with O_TMPFILE'));
  expect(made.errno).toBe(0);
  await write(made.handle, 0, 'content');
  expect(readdirSync(guest.shared)).toEqual([]);
  expect(await guest.getattr(made.id)).toMatchObject({ errno: 0, nlink: 0, size: 7 });
  expect((await guest.call(FUSE.LINK, ROOT, bytes(BigInt(made.id), 'named'))).errno).toBe(0);
  expect(readFileSync(guest.at('named'), 'utf8')).toBe('content');
  expect((await guest.lookup(ROOT, 'named')).id).toBe(made.id);
  const excluded = await guest.create(ROOT, '#2', { opcode: FUSE.TMPFILE, flags: O_RDWR | O_EXCL });
  expect((await guest.call(FUSE.LINK, ROOT, bytes(BigInt(excluded.id), 'other'))).errno).toBe(
    ERRNO['ENOENT'],
  );
});

test.each([
  ['a pipe', 0o010644, 0],
  ['a socket', 0o140755, 0],
  ['a whiteout', 0o020600, 0],
])('mknod(2) makes %s', async (_, mode, rdev) => {
  const { errno, data } = await guest.call(FUSE.MKNOD, ROOT, bytes(mode, rdev, 0, 0, 'node'));
  expect(errno).toBe(0);
  expect(entryOf(data).mode).toBe(mode);
  expect(lstatSync(guest.at('node')).mode).toBe(mode);
  // The host opens neither.
  expect(await guest.open(entryOf(data).id)).toMatchObject({ errno: ERRNO['ENXIO'] });
});

test.each([
  ['a character device', 0o020600, 0x103],
  ['a block device', 0o060600, 0x800],
  ['a block device 0:0', 0o060600, 0],
])('mknod(2) does not make %s', async (_, mode, rdev) => {
  const { errno } = await guest.call(FUSE.MKNOD, ROOT, bytes(mode, rdev, 0, 0, 'node'));
  expect(errno).toBe(ERRNO['EPERM']);
  expect(readdirSync(guest.shared)).toEqual([]);
});

test('times come back to the nanosecond, those before 1970 too', async () => {
  const { id } = await guest.create(ROOT, 'file');
  for (const [seconds, nanoseconds] of [
    [1_700_000_000n, 123_456_789],
    [1n, 1],
    [-5n, 999_999_999],
  ] as const) {
    const fields = bytes(1 << 5, 0, 0n, 0n, 0n, 0n, seconds, 0n, 0, nanoseconds, 0, 0, 0, 0, 0, 0);
    expect((await guest.call(FUSE.SETATTR, id, fields)).errno).toBe(0);
    expect(await guest.getattr(id)).toMatchObject({
      mtime: BigInt.asUintN(64, seconds),
      mtimeNs: nanoseconds,
    });
  }
});

test('names are any bytes', async () => {
  const names = [
    Buffer.of(0xff),
    Buffer.from('\xe9t\xe9', 'latin1'),
    Buffer.of(0xed, 0xb2, 0x80),
    Buffer.from('é'),
  ];
  for (const name of names) {
    const made = await guest.create(ROOT, name);
    expect(made.errno).toBe(0);
    const found = await guest.call(FUSE.LOOKUP, ROOT, Buffer.concat([name, Buffer.alloc(1)]));
    expect(entryOf(found.data).id).toBe(made.id);
  }
  const sorted = (list: readonly Buffer[]): string[] => list.map((name) => name.toString('hex')).sort();
  expect(sorted(readdirSync(guest.shared, { encoding: 'buffer' }))).toEqual(sorted(names));
  const listed = await guest.listRaw(ROOT);
  expect(sorted(listed.map(({ name }) => name))).toEqual(
    sorted([...names, Buffer.from('.'), Buffer.from('..')]),
  );
  // A saved machine finds them again.
  const state = JSON.parse(JSON.stringify(guest.device.save()));
  const again = await ShareGuest.open(guest.shared);
  again.device.restore(state);
  for (const [, lookups] of state.nodes) expect(lookups).toBe(2);
  for (const [id] of state.nodes) expect(await again.getattr(id)).toMatchObject({ errno: 0 });
  await again.device.close();
  const target = Buffer.of(0x2f, 0xfe, 0);
  const link = await guest.call(FUSE.SYMLINK, ROOT, Buffer.concat([bytes('link'), target]));
  expect((await guest.call(FUSE.READLINK, entryOf(link.data).id, bytes())).data).toEqual(
    target.subarray(0, 2),
  );
});

test('rename(2) leaves a whiteout', async ({ skip }) => {
  writeFileSync(guest.at('a'), 'content');
  const { id } = await guest.lookup(ROOT, 'a');
  const move = (flags: number, from: string, to: string) =>
    guest.call(FUSE.RENAME2, ROOT, bytes(1n, flags, 0, from, to));
  const { errno } = await move(WHITEOUT, 'a', 'b');
  if (errno === ERRNO['EINVAL']) skip(missing('a temporary folder on a file system with RENAME_WHITEOUT'));
  expect(errno).toBe(0);
  expect(lstatSync(guest.at('a'))).toMatchObject({ mode: 0o020000, rdev: 0 });
  expect((await guest.lookup(ROOT, 'b')).id).toBe(id);
  expect((await guest.lookup(ROOT, 'a')).id).not.toBe(id);
  expect((await move(WHITEOUT | NOREPLACE, 'b', 'a')).errno).toBe(ERRNO['EEXIST']);
  expect((await move(WHITEOUT | 2, 'b', 'a')).errno).toBe(ERRNO['EINVAL']);
});

test('a listing is whole while names come and go, and can be gone on with from any of its entries', async () => {
  for (let i = 0; i < 300; i++) writeFileSync(guest.at(`stays${i}`), '');
  for (let i = 0; i < 300; i++) writeFileSync(guest.at(`goes${i}`), '');
  let step = 0;
  const listed = await guest.listRaw(ROOT, 512, () => {
    for (let i = 0; i < 10 && step < 300; i++, step++) {
      unlinkSync(guest.at(`goes${step}`));
      writeFileSync(guest.at(`new${step}`), '');
    }
  });
  const stays = listed.map(({ name }) => name.toString()).filter((name) => name.startsWith('stays'));
  expect(stays.length).toBe(300);
  expect(new Set(stays).size).toBe(300);
  const names = listed.map(({ name }) => name.toString());
  expect(names.filter((name) => name === '.' || name === '..')).toHaveLength(2);
  const one = listed.find(({ name }) => name.toString() === 'stays7');
  expect(one?.ino).toBe(BigInt(statSync(guest.at('stays7')).ino));
  expect(listed.find(({ name }) => name.toString() === '.')?.ino).toBe(BigInt(statSync(guest.shared).ino));
  expect(listed.find(({ name }) => name.toString() === '..')?.ino).toBe(BigInt(statSync(guest.shared).ino));
});

test('READDIRPLUS tells of each entry but the two of the folder, as often as it is to be forgotten', async () => {
  mkdirSync(guest.at('d'));
  for (let i = 0; i < 40; i++) writeFileSync(guest.at(`d/f${i}`), 'x'.repeat(i));
  const { id } = await guest.lookup(ROOT, 'd');
  const { data } = await guest.call(FUSE.OPENDIR, id, bytes(0, 0));
  const handle = data.readBigUInt64LE(0);
  const told = new Map<string, number>();
  for (let offset = 0n; ; ) {
    const fields = bytes(handle, offset, 1500, 0, 0n, 0, 0);
    const listed = (await guest.call(FUSE.READDIRPLUS, id, fields, 1500)).data;
    if (listed.length === 0) break;
    for (const entry of direntsOf(listed, ENTRY_BYTES)) {
      const name = entry.name.toString();
      offset = entry.next;
      told.set(name, Number(entry.head.readBigUInt64LE(0)));
      if (name.startsWith('f')) expect(ShareGuest.stat(entry.head, 40).size).toBe(Number(name.slice(1)));
    }
  }
  expect(told.size).toBe(42);
  expect([told.get('.'), told.get('..')]).toEqual([0, 0]);
  for (const [name, node] of told) if (name.startsWith('f')) await guest.forget(node, 1);
  await guest.forget(id, 1);
  await guest.call(FUSE.RELEASEDIR, id, bytes(handle, 0, 0, 0n), 0);
  expect(guest.folder.knownNodes).toBe(0);
});

test.each([
  ['READDIR', FUSE.READDIR, 0],
  ['READDIRPLUS', FUSE.READDIRPLUS, ENTRY_BYTES],
])(
  '%s reads no entry that does not fit, so the descriptor stands where the listing goes on',
  async (_, opcode, head) => {
    const lengths = Array.from({ length: 400 }, (_each, i) => (i * 37) % 120);
    for (const [i, length] of lengths.entries()) writeFileSync(guest.at(`${i}${'x'.repeat(length)}`), '');
    const handle = (await guest.call(FUSE.OPENDIR, ROOT, bytes(0, 0))).data.readBigUInt64LE(0);
    const place = (): string | undefined => {
      const open = readdirSync('/proc/self/fd').filter(
        (fd) => linkOf(`/proc/self/fd/${fd}`) === guest.shared,
      );
      const facts = open.map((fd) => readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
      const isHeld = (text: string): boolean =>
        (Number.parseInt(/flags:\s*(\d+)/.exec(text)?.[1] ?? '', 8) & 0o10000000) !== 0;
      return /pos:\s*(\d+)/.exec(facts.find((text) => !isHeld(text)) ?? '')?.[1];
    };
    for (let offset = 0n, size = 4096; ; ) {
      const { data } = await guest.call(opcode, ROOT, bytes(handle, offset, size, 0, 0n, 0, 0), size);
      if (data.length === 0) break;
      for (const { next } of direntsOf(data, head)) offset = next;
      expect(place()).toBe(String(offset));
    }
  },
);

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // closed meanwhile
  }
}

test('lseek(2) finds data and holes', async () => {
  writeFileSync(guest.at('sparse'), 'data');
  truncateSync(guest.at('sparse'), 1 << 20);
  const { id } = await guest.lookup(ROOT, 'sparse');
  const { handle } = await guest.open(id);
  const seek = async (offset: number, whence: number): Promise<[number, bigint]> => {
    const { errno, data } = await guest.call(FUSE.LSEEK, id, bytes(handle, BigInt(offset), whence, 0));
    return [errno, errno === 0 ? data.readBigUInt64LE(0) : 0n];
  };
  expect(await seek(0, SEEK_DATA)).toEqual([0, 0n]);
  expect((await seek(0, SEEK_HOLE))[1]).toBeGreaterThan(0n);
  expect(await seek(2 << 20, SEEK_DATA)).toEqual([ERRNO['ENXIO'], 0n]);
  expect(await seek(0, 0)).toEqual([ERRNO['EINVAL'], 0n]);
});

test('what is open is written, cut, synced and described after another took its name', async () => {
  const old = await guest.create(ROOT, 'status');
  await write(old.handle, 0, 'old content');
  const next = await guest.create(ROOT, 'status-new');
  await write(next.handle, 0, 'new');
  expect((await guest.call(FUSE.RENAME, ROOT, bytes(1n, 'status-new', 'status'))).errno).toBe(0);
  expect(await guest.setattr(old.id, { mode: 0o600 })).toBe(0);
  expect((await guest.call(FUSE.FSYNC, old.id, bytes(old.handle, 0, 0))).errno).toBe(0);
  const cut = bytes(8 | 64, 0, old.handle, 3n, 0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 0, 0, 0);
  expect((await guest.call(FUSE.SETATTR, old.id, cut)).errno).toBe(0);
  expect(await guest.getattr(old.id)).toMatchObject({ errno: 0, size: 3, nlink: 0, mode: 0o100600 });
  expect((await guest.read(old.handle, 0, 10)).data.toString()).toBe('old');
  await guest.release(old.id, old.handle);
  expect(readFileSync(guest.at('status'), 'utf8')).toBe('new');
  expect((await guest.lookup(ROOT, 'status')).id).toBe(next.id);
});

test.each<[string, () => unknown]>([
  ['whose name went, and whose other is not known', () => guest.call(FUSE.UNLINK, ROOT, bytes('open'))],
  ['that was moved on the host', () => renameSync(guest.at('open'), guest.at('elsewhere'))],
  ['whose name another has on the host', () => renameSync(guest.at('other'), guest.at('open'))],
])('a file that is open, %s, is described, changed and opened again by what is open of it', async (_, go) => {
  writeFileSync(guest.at('open'), 'hello');
  writeFileSync(guest.at('other'), 'another');
  linkSync(guest.at('open'), guest.at('second'));
  guest.user = { uid: 0, gid: 0 };
  const { id } = await guest.lookup(ROOT, 'open');
  const { handle } = await guest.open(id, O_RDWR);
  await go();
  const { folder } = guest;
  for (let i = 0; i < 1100; i++) {
    // Those that it knows by name are no more than 1024, and it is not among them any more.
    writeFileSync(guest.at(`f${i}`), '');
    await folder.lookup(folder.root, `f${i}`);
  }
  expect(await guest.getattr(id)).toMatchObject({ errno: 0, size: 5 });
  expect(await guest.setattr(id, { size: 2, mode: 0o640 })).toBe(0);
  const again = await guest.open(id);
  expect((await guest.read(again.handle, 0, 10)).data.toString()).toBe('he');
  expect(statSync(guest.at('second'))).toMatchObject({ size: 2, mode: 0o100640 });
  await guest.release(id, again.handle);
  await guest.release(id, handle);
  expect((await guest.getattr(id)).errno).toBe(ERRNO['ESTALE']);
});

test('a handle of a folder is no file, and a handle that is closed is neither', async () => {
  writeFileSync(guest.at('file'), 'content');
  const { data } = await guest.call(FUSE.OPENDIR, ROOT, bytes(0, 0));
  const folder = data.readBigUInt64LE(0);
  expect((await guest.read(folder, 0, 10)).errno).toBe(ERRNO['EISDIR']);
  const { id } = await guest.lookup(ROOT, 'file');
  const { handle } = await guest.open(id);
  const list = bytes(handle, 0n, 4096, 0, 0n, 0, 0);
  expect((await guest.call(FUSE.READDIR, id, list)).errno).toBe(ERRNO['ENOTDIR']);
  expect((await guest.call(FUSE.FSYNCDIR, ROOT, bytes(folder, 0, 0))).errno).toBe(0);
  await guest.release(id, handle);
  expect((await guest.read(handle, 0, 10)).errno).toBe(ERRNO['EBADF']);
});

test('a file that another took the name of on the host is not taken for it', async () => {
  writeFileSync(guest.at('a'), 'one');
  const first = await guest.lookup(ROOT, 'a');
  writeFileSync(guest.at('b'), 'two');
  renameSync(guest.at('b'), guest.at('a'));
  const second = await guest.lookup(ROOT, 'a');
  expect(second.id).not.toBe(first.id);
  const { handle } = await guest.open(first.id);
  expect((await guest.read(handle, 0, 10)).data.toString()).toBe('one');
});
