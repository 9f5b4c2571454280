import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();
const MAX = 1000;

test('all that is said is in the file, in order, for its owner only', async () => {
  const path = join(root, 'all');
  const log = new ConsoleLog(path);
  for (const word of ['one ', 'two ', 'three']) log.push(Buffer.from(word));
  await log.close();
  expect([readFileSync(path, 'utf8'), statSync(path).mode & 0o777]).toEqual(['one two three', 0o600]);
});

test('the file is bounded, and the one before it is kept', async () => {
  const path = join(root, 'bounded');
  const log = new ConsoleLog(path, MAX);
  for (let i = 0; i < 50; i++) {
    log.push(Buffer.from(`${String(i).padEnd(99, '.')}\n`));
    await log.settled();
  }
  await log.close();
  const text = readFileSync(`${path}.1`, 'utf8') + (existsSync(path) ? readFileSync(path, 'utf8') : '');
  expect(text.length).toBeLessThanOrEqual(2 * MAX);
  expect(text).toMatch(/49\.+\n$/);
});

test('who comes later is shown the last of it, no more', () => {
  const log = new ConsoleLog();
  for (let i = 0; i < 200; i++) log.push(Buffer.alloc(1000, i % 256));
  expect(log.tail.length).toBeGreaterThanOrEqual(64 << 10);
  expect(log.tail.length).toBeLessThan((64 << 10) + 1000);
  expect(log.tail.at(-1)).toBe(199);
  log.push(Buffer.alloc(1 << 20, 7));
  expect([log.tail.length, log.tail[0]]).toEqual([64 << 10, 7]);
});

test('who listens hears it until he has enough', () => {
  const log = new ConsoleLog();
  const heard: string[] = [];
  const subscription = log.listen((bytes) => void heard.push(Buffer.from(bytes).toString()));
  log.push(Buffer.from('a'));
  subscription[Symbol.dispose]();
  log.push(Buffer.from('b'));
  expect(heard).toEqual(['a']);
});

test('a file that cannot be written costs the log, not the machine', async () => {
  const log = new ConsoleLog(join(root, 'nowhere/log'));
  log.push(Buffer.from('a'));
  await log.close();
  expect(Buffer.from(log.tail).toString()).toBe('a');
});
