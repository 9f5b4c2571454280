/** Rights of a guest's requests on the host: those of its users, never those of this process. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ERRNO, FUSE } from '../../src/devices/fs/protocol.js';
import { eventually } from '../support/eventually.js';
import { bytes } from '../support/fuse-client.js';
import { ROOT, ShareGuest } from '../support/share-guest.js';
import { skipAll } from '../support/skip.js';
import { notHere } from '../support/skip-reasons.js';

const O_WRONLY = 1;
const O_TRUNC = 0o1000;
const SETUID_FILE = 0o4755;
const KEEP_SIZE = 1;
const asUser = process.geteuid?.() === 0 ? undefined : notHere('only the superuser acts for others');

let guest: ShareGuest;

beforeEach(async () => {
  guest = await ShareGuest.open();
});
afterEach(() => guest.close());

describe('setuid and setgid of a host’s file fall', () => {
  const write = async (handle: bigint): Promise<void> =>
    expect((await guest.write(handle, 0, 'other')).errno).toBe(0);
  const opened = async (flags: number, id: number): Promise<bigint> => {
    const { errno, handle } = await guest.open(id, flags);
    expect(errno).toBe(0);
    return handle;
  };
  test.each<[string, (id: number) => Promise<unknown>]>([
    ['a write', async (id) => write(await opened(O_WRONLY, id))],
    ['a truncation', (id) => guest.setattr(id, { size: 1 })],
    ['opening it to empty it', (id) => opened(O_WRONLY | O_TRUNC, id)],
    [
      'fallocate',
      async (id) =>
        guest.call(FUSE.FALLOCATE, id, bytes(await opened(O_WRONLY, id), 0n, 9000n, KEEP_SIZE, 0)),
    ],
    [
      'copy_file_range',
      async (id) => {
        writeFileSync(guest.at('source'), 'source');
        const from = await opened(0, (await guest.lookup(ROOT, 'source')).id);
        const to = await opened(O_WRONLY, id);
        await guest.call(FUSE.COPY_FILE_RANGE, ROOT, bytes(from, 0n, BigInt(id), to, 0n, 6n, 0n));
        expect(readFileSync(guest.at('su'), 'utf8')).toBe('sourcem');
      },
    ],
  ])('at %s, for the guest’s root too', async (_, change) => {
    for (const user of [
      { uid: 1000, gid: 1001 },
      { uid: 0, gid: 0 },
    ]) {
      writeFileSync(guest.at('su'), 'program');
      chmodSync(guest.at('su'), SETUID_FILE | 0o2000);
      guest.user = asUser === undefined ? user : guest.user;
      const { id } = await guest.lookup(ROOT, 'su');
      await change(id);
      expect(statSync(guest.at('su')).mode & 0o6000).toBe(0);
      unlinkSync(guest.at('su'));
    }
  });

  test('and the guest’s kernel is told that it need not see to it', async () => {
    const { data } = await guest.init();
    expect(data.readUInt32LE(12) & ((1 << 19) | (1 << 28))).toBe((1 << 19) | (1 << 28));
  });
});

describe('a user of the guest', () => {
  skipAll(asUser);

  test('owns what it makes, as does its root, and nobody else changes owners', async () => {
    const { id } = await guest.create(ROOT, 'mine');
    expect(lstatSync(guest.at('mine'))).toMatchObject({ uid: 1000, gid: 1001 });
    expect(await guest.setattr(id, { uid: 0 })).toBe(ERRNO['EPERM']);
    // Which groups they are in is for the guest's kernel to say.
    expect(await guest.setattr(id, { gid: 4 })).toBe(0);
    expect(lstatSync(guest.at('mine'))).toMatchObject({ uid: 1000, gid: 4 });
    expect(await guest.setattr(id, { mode: 0o600 })).toBe(0);
    writeFileSync(guest.at('theirs'), '');
    const theirs = await guest.lookup(ROOT, 'theirs');
    expect(await guest.setattr(theirs.id, { uid: 1000 })).toBe(ERRNO['EPERM']);
    expect(await guest.setattr(theirs.id, { gid: 1001 })).toBe(ERRNO['EPERM']);
    expect(await guest.setattr(theirs.id, { mode: 0o777 })).toBe(ERRNO['EPERM']);
    guest.user = { uid: 0, gid: 0 };
    expect(await guest.setattr(id, { uid: 7, gid: 8, mode: 0o640 })).toBe(0);
    expect(lstatSync(guest.at('mine'))).toMatchObject({ uid: 7, gid: 8, mode: 0o100640 });
  });

  test('gets the group of a setgid folder for what it makes there', async () => {
    mkdirSync(guest.at('team'));
    chownSync(guest.at('team'), 0, 44);
    chmodSync(guest.at('team'), 0o2777);
    const { id } = await guest.lookup(ROOT, 'team');
    await guest.create(id, 'new');
    expect(lstatSync(guest.at('team/new'))).toMatchObject({ uid: 1000, gid: 44 });
  });

  test('with an id that this host cannot be is refused, and nothing is made', async () => {
    guest.user = { uid: 0xffff_ffff, gid: 0xffff_ffff };
    expect((await guest.create(ROOT, 'nobody')).errno).toBe(ERRNO['EPERM']);
    expect(() => statSync(guest.at('nobody'))).toThrow('ENOENT');
    // What is there it may use, as the guest's kernel decides.
    writeFileSync(guest.at('there'), 'content');
    const { handle } = await guest.open((await guest.lookup(ROOT, 'there')).id);
    expect((await guest.read(handle, 0, 10)).data.toString()).toBe('content');
  });

  test('does not get the file that was put in the place of what it makes', async () => {
    // A race: who renames is a process of its own, and as quick as it can.
    const program = `const fs = require('fs'); process.chdir(process.argv[1]); process.stdout.write('.');
      for (;;) try { fs.lstatSync("x"); fs.renameSync('secret', 'x') } catch { if (process.ppid === 1) break }`;
    const attacker = spawn(process.execPath, ['-e', program, guest.shared], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      await once(attacker.stdout, 'data');
      for (let round = 0; round < 10; round++) {
        for (const make of [
          () => guest.create(ROOT, 'x'),
          () => guest.call(FUSE.MKNOD, ROOT, bytes(0o100666, 0, 0, 0, 'x')),
          () => guest.call(FUSE.SYMLINK, ROOT, bytes('x', 'target')),
        ]) {
          writeFileSync(guest.at('secret'), 'root only', { mode: 0o600 });
          await make();
          await eventually(() => existsSync(guest.at('secret'))).toBe(false);
          expect(lstatSync(guest.at('x'))).toMatchObject({ uid: 0, mode: 0o100600, size: 9 });
          unlinkSync(guest.at('x'));
        }
      }
    } finally {
      attacker.kill('SIGKILL');
    }
  });
});

test('a file that became a pipe with its inode number on the host is not opened, and nothing waits', async () => {
  const names = ['f0', 'f1', 'f2', 'f3'];
  mkdirSync(guest.at('many'));
  for (let i = 0; i < 1100; i++) writeFileSync(guest.at(`many/${i}`), '');
  for (const name of names) writeFileSync(guest.at(name), '');
  const { folder } = guest;
  const nodes = await Promise.all(names.map((name) => folder.lookup(folder.root, name)));
  const { node: many } = await folder.lookup(folder.root, 'many');
  for (let i = 0; i < 1100; i++) await folder.lookup(many, String(i)); // descriptors of the four are let go
  for (const name of names) {
    unlinkSync(guest.at(name));
    execFileSync('mkfifo', [guest.at(name)]);
  }
  for (const { node } of nodes) await expect(folder.open(node, 0)).rejects.toMatchObject({ code: 'ESTALE' });
  for (const name of names) {
    const { node } = await folder.lookup(folder.root, name);
    await expect(folder.open(node, 0)).rejects.toMatchObject({ code: 'ENXIO' });
  }
  await readFile('/etc/hostname').catch(() => {});
});
