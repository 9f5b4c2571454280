import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  read,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DiskIo } from '../../src/host/disk/io.js';
import { loadAddon } from '../../src/native/binding.js';

const addon = loadAddon();
const LIBUV_THREADS = 4;
const PUNCH_HOLE_KEEP_SIZE = 3;
let directory: string;
let path: string;
let fd: number;
let io: DiskIo;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsvm-'));
  path = join(directory, 'disk');
  writeFileSync(path, Buffer.alloc(1 << 20, 1));
  fd = openSync(path, 'r+');
  io = new DiskIo(addon, fd);
});

afterEach(() => {
  io.close();
  closeSync(fd);
  rmSync(directory, { recursive: true });
});

const threads = (): number => readdirSync('/proc/self/task').length;

test('reads and writes lists of buffers where they are told to', async () => {
  expect(await io.writev([Buffer.from('ab'), Buffer.from('cde')], 4094)).toBe(5);
  const buffers = [new Uint8Array(3), new Uint8Array(4)];
  expect(await io.readv(buffers, 4093)).toBe(7);
  expect(Buffer.concat(buffers).toString('latin1')).toBe('\x01abcde\x01');
  expect(await io.readv([new Uint8Array(8)], (1 << 20) - 3)).toBe(3);
  await io.datasync();
  await io.fallocate(PUNCH_HOLE_KEEP_SIZE, 0, 4096);
  expect(readFileSync(path).subarray(4090, 4100).toString('latin1')).toBe('\0\0\0\0\0\0cde\x01');
});

test('rejects with the system call and its error', async () => {
  const reader = openSync(path, 'r');
  const readOnly = new DiskIo(addon, reader);
  await expect(readOnly.writev([new Uint8Array(1)], 0)).rejects.toMatchObject({
    code: 'EBADF',
    errno: -9,
    syscall: 'pwritev',
    message: 'EBADF, pwritev',
  });
  await expect(io.fallocate(0x4000, 0, 1)).rejects.toMatchObject({
    code: 'ENOTSUP',
    syscall: 'fallocate',
  });
  readOnly.close();
  closeSync(reader);
});

test('does many at once, each with its own result', async () => {
  const lengths = Array.from({ length: 500 }, (_, i) => (i % 7) + 1);
  const results = lengths.map((length, i) => io.readv([new Uint8Array(length)], (1 << 20) - (i % 5)));
  expect(await Promise.all(results)).toEqual(lengths.map((length, i) => Math.min(length, i % 5)));
});

test('waits for nobody in libuv’s pool', async () => {
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const end = openSync(fifo, constants.O_RDWR);
  const stuck = Array.from({ length: LIBUV_THREADS }, () =>
    promisify(read)(end, new Uint8Array(1), 0, 1, null),
  );
  await sleep(20);
  expect(await io.readv([new Uint8Array(4)], 0)).toBe(4);
  await io.datasync();
  writeSync(end, Buffer.alloc(LIBUV_THREADS));
  await Promise.all(stuck);
  closeSync(end);
});

test('has threads only while there is work, and no more than four', async () => {
  await promisify(read)(fd, new Uint8Array(1), 0, 1, 0); // libuv's
  const before = threads();
  const all = Promise.all(Array.from({ length: 200 }, () => io.writev([new Uint8Array(1 << 16)], 0)));
  expect(threads() - before).toBeGreaterThan(0);
  expect(threads() - before).toBeLessThanOrEqual(4);
  await all;
  await expect.poll(threads, { timeout: 10_000 }).toBeLessThanOrEqual(before);
  expect(await io.readv([new Uint8Array(4)], 0)).toBe(4);
});

test('is not forgotten while it works, whoever waits', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const written = ((): Promise<number> => new DiskIo(addon, fd).writev([new Uint8Array(1 << 20)], 0))();
  gc();
  gc();
  expect(await written).toBe(1 << 20);
});

test('is an error after it was closed, and closing twice is none', () => {
  io.close();
  expect(() => addon.openDiskIo(fd, 1, () => {}).close()).not.toThrow();
  expect(() => io.readv([new Uint8Array(1)], 0)).toThrow('EBADF');
});
