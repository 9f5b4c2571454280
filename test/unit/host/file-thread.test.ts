/** Calls on files on their own thread: what is made after one that fails. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type FileCall, FileThread } from '../../../src/host/fs/file-thread.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
/** Calls, as many as are sent at once. */
const folders = (name: string): FileCall[] =>
  Array.from({ length: 64 }, (_, i) => ['mkdirSync', join(folder, `${name}${i}`)]);

test('a batch that was sent before another failed is not made', async () => {
  mkdirSync(join(folder, 'first0'));
  await using thread = new FileThread();
  await thread.call(...folders('first'));
  await thread.call(...folders('second'));
  await expect(thread.done()).rejects.toMatchObject({ code: 'EEXIST' });
  await sleep(100);
  expect(existsSync(join(folder, 'second0'))).toBe(false);
});
