import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { connectTo, listenAt, type UnixListener } from '../../../src/host/unix-listener.js';
import { temporaryDirectory } from '../../support/guest.js';
import { openFiles } from '../../support/scratch-addon.js';
import { notRoot } from '../../support/skip-reasons.js';

const root = mkdtempSync(join(tmpdir(), 'tsvm-listen-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const at = (name: string): Promise<UnixListener> =>
  listenAt(createServer(), { path: join(root, name), what: 'test', code: 'TSVM_PORT' });

const connects = (name: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(join(root, name));
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

test('listenAt() makes sockets of mode 0600 and leaves nothing else, many at once, whatever the umask', async () => {
  const umask = process.umask(0);
  try {
    const names = Array.from({ length: 20 }, (_, i) => `many-${i}`);
    const listening = names.map(at);
    expect(process.umask()).toBe(0); // while they are under way
    const listeners = await Promise.all(listening);
    expect(process.umask()).toBe(0);
    for (const name of names) expect(statSync(join(root, name)).mode & 0o777).toBe(0o600);
    expect(await connects('many-7')).toBe(true);
    expect(readdirSync(root).sort()).toEqual(names.sort());
    await Promise.all(listeners.map((listener) => listener.close()));
    expect(readdirSync(root)).toEqual([]);
  } finally {
    process.umask(umask);
  }
});

test('listenAt() replaces nothing but a socket that nobody serves', async () => {
  writeFileSync(join(root, 'file'), 'mine');
  await expect(at('file')).rejects.toMatchObject({ code: 'TSVM_PORT', message: /listens there/ });
  expect(statSync(join(root, 'file')).size).toBe(4);
  const first = await at('served');
  await expect(at('served')).rejects.toThrow('listens there');
  linkSync(join(root, 'served'), join(root, 'stale'));
  await first.close();
  const second = await at('stale');
  expect(await connects('stale')).toBe(true);
  await second.close();
  expect(readdirSync(root)).toEqual(['file']);
});

test('listenAt() gives a socket that was left behind to one alone of those who want it at once', async () => {
  for (let round = 0; round < 20; round++) {
    const first = await at('passing');
    linkSync(join(root, 'passing'), join(root, 'left'));
    await first.close();
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => at('left')));
    const owners = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    const refusals = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refusals.map(({ reason }) => String(reason)).join('\n')).toMatch(/^(.*listens there.*\n?){5}$/);
    expect(owners).toHaveLength(1);
    expect(await connects('left')).toBe(true);
    await owners[0]?.value.close();
  }
});

test('UnixListener.close() leaves the socket of a successor', async () => {
  const first = await at('passed-on');
  unlinkSync(join(root, 'passed-on'));
  const second = await at('passed-on');
  await first.close();
  expect(await connects('passed-on')).toBe(true);
  await second.close();
});

test('UnixListener.close() removes nothing of a folder that is open by then', async () => {
  const listener = await at('closing');
  const folder = temporaryDirectory();
  writeFileSync(join(folder, 's'), 'mine');
  // One of them has the number that the descriptor of the listener's own folder had.
  const open = Array.from({ length: 64 }, () => openSync(folder, 'r'));
  await listener.close();
  for (const fd of open) closeSync(fd);
  expect(readdirSync(folder)).toEqual(['s']);
});

test('listenAt() takes a path of the greatest length', async () => {
  const name = 'x'.repeat(107 - Buffer.byteLength(root) - 1);
  const listener = await at(name);
  expect(await connects(name)).toBe(true);
  await listener.close();
});

describe('connectTo()', () => {
  const outcome = (path: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = new Socket();
      socket.once('connect', () => {
        resolve('connected');
        socket.destroy();
      });
      socket.once('error', (error) => resolve(error.message));
      connectTo(socket, path);
    });

  test('trusts no other user’s name in a folder that others may write', async ({ skip }) => {
    skip(notRoot() !== undefined, notRoot());
    const folder = temporaryDirectory();
    const path = join(folder, 's');
    const server = createServer((socket) => socket.destroy());
    const listener = await listenAt(server, { path, what: 'test', code: 'TSVM_VSOCK' });
    for (const mode of [0o1777, 0o777, 0o775]) {
      chmodSync(folder, mode);
      expect(await outcome(path)).toBe('connected');
      chownSync(path, 1000, 1000);
      expect(await outcome(path)).toContain('another user');
      // The folder's owner could replace whatever is in it.
      chownSync(folder, 1000, 1000);
      expect(await outcome(path)).toBe('connected');
      chownSync(folder, 0, 0);
      chownSync(path, 0, 0);
    }
    chmodSync(folder, 0o755);
    chownSync(path, 1000, 1000);
    expect(await outcome(path)).toBe('connected');
    await listener.close();
    expect(await outcome(path)).toContain('ENOENT');
  });

  test('leaves no descriptor open, whether it connects, is refused, or was given up', async () => {
    const folder = temporaryDirectory();
    const path = join(folder, 's');
    const server = createServer((socket) => socket.destroy());
    const listener = await listenAt(server, { path, what: 'test', code: 'TSVM_VSOCK' });
    const names = () => openFiles().filter((path) => path.startsWith(folder));
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect([await outcome(path), await outcome(file)]).toEqual([
      'connected',
      expect.stringContaining('ECONN'),
    ]);
    const given = new Socket();
    connectTo(given, path);
    given.destroy();
    await expect.poll(names).toEqual([]);
    await listener.close();
  });
});
