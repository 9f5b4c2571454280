import { execFileSync } from 'node:child_process';
import { constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { LogFile, LogFiles } from '../../../src/control/log-file.js';

const root = mkdtempSync(join(tmpdir(), 'tsvm-log-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

function fifo(name: string): string {
  const path = join(root, name);
  execFileSync('mkfifo', [path]);
  return path;
}

test('LogFile.write() keeps the order of its calls', async () => {
  const file = new LogFile(join(root, 'order'));
  const lines = Array.from({ length: 10_000 }, (_, i) => `${i}\n`);
  for (const line of lines) file.write(line);
  await file.close();
  expect(readFileSync(join(root, 'order'), 'utf8')).toBe(lines.join(''));
});

test('LogFile.write() holds no more than its bound, and counts the rest', async () => {
  const file = new LogFile(join(root, 'bound'));
  for (let i = 0; i < 100; i++) file.write(Buffer.alloc(1 << 20));
  await file.close();
  expect(file.lostBytes).toBe(96 << 20);
  file.write('late');
  expect(file.lostBytes).toBe((96 << 20) + 4);
});

test('LogFile takes a pipe that nobody reads, as often as it is asked: no thread waits, and what is too much is counted', async () => {
  const paths = Array.from({ length: 10 }, (_, i) => fifo(`unread${i}`));
  const files = paths.map((path) => new LogFile(path));
  for (const file of files) {
    await file.open();
    file.write('first\n');
    await file.settled();
    expect(file.lostBytes).toBe(0);
    file.write(Buffer.alloc(1 << 20, 'x'));
    file.write(Buffer.alloc(1 << 20, 'y'));
  }
  expect(await readFile(import.meta.filename, 'utf8')).not.toBe('');
  await Promise.all(files.map((file) => file.settled()));
  for (const file of files) expect(file.lostBytes).toBeGreaterThan(1 << 20);
  const reader = await open(paths[0]!, constants.O_RDONLY | constants.O_NONBLOCK);
  expect((await reader.read(Buffer.alloc(8))).buffer.toString()).toBe('first\nxx');
  await reader.close();
  await Promise.all(files.map((file) => file.close()));
});

test('LogFile.write() begins a new line after one that a full pipe has cut', async () => {
  const path = fifo('cut');
  const file = new LogFile(path);
  await file.open();
  const reader = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const all = Buffer.alloc(2 << 20);
  file.write(Buffer.alloc(1 << 20, 'x'));
  await file.settled();
  const { bytesRead } = await reader.read(all);
  file.write('whole\n');
  await file.settled();
  expect(bytesRead).toBe((1 << 20) - file.lostBytes);
  const { bytesRead: more } = await reader.read(all);
  expect(all.toString('latin1', 0, more)).toBe('\nwhole\n');
  await reader.close();
  await file.close();
});

test('LogFile.write() loses what a pipe has no room for, and goes on when its reader has gone and another comes', async () => {
  const path = fifo('slow');
  const reading = constants.O_RDONLY | constants.O_NONBLOCK;
  const reader = await open(path, reading);
  const file = new LogFile(path);
  await file.open();
  file.write(Buffer.alloc(1 << 20, 'x'));
  await file.settled();
  expect(file.lostBytes).toBeGreaterThan(0);
  await reader.read(Buffer.alloc(1 << 17)); // a pipe keeps what was written while anybody has it open
  await reader.close();
  file.write('nobody\n');
  await file.settled();
  const next = await open(path, reading);
  file.write('somebody\n');
  await file.close();
  expect((await next.read(Buffer.alloc(1 << 17))).buffer.toString('latin1')).toContain('somebody');
  await next.close();
});

test('LogFiles.at() has one file for each role', async () => {
  const files = new LogFiles();
  const first = files.at('log', join(root, 'a'));
  expect(files.at('log', join(root, 'a'))).toBe(first);
  const second = files.at('log', join(root, 'b'));
  expect(second).not.toBe(first);
  second.write('x');
  await files.close();
  expect(readFileSync(join(root, 'b'), 'utf8')).toBe('x');
});
