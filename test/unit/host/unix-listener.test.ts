import { linkSync, mkdtempSync, readdirSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { listenAt, type UnixListener } from '../../../src/host/unix-listener.js';

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

test('UnixListener.close() leaves the socket of a successor', async () => {
  const first = await at('passed-on');
  unlinkSync(join(root, 'passed-on'));
  const second = await at('passed-on');
  await first.close();
  expect(await connects('passed-on')).toBe(true);
  await second.close();
});

test('listenAt() takes a path of the greatest length', async () => {
  const name = 'x'.repeat(107 - Buffer.byteLength(root) - 1);
  const listener = await at(name);
  expect(await connects(name)).toBe(true);
  await listener.close();
});
