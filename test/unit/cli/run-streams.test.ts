/** A command's output and its readers, of whom some have stopped reading. */
import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { atReadersPace } from '../../../src/cli/session/run-streams.js';

afterEach(() => vi.useRealTimers());

test('atReadersPace() waits as long as the reader takes; after the end was asked for, a second and no more', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const stop = new AbortController();
  const events: string[] = [];
  const reader = new PassThrough();
  const taken = new Promise((resolve) => reader.once('close', resolve));
  void atReadersPace(taken, stop.signal).then(() => events.push('over'));
  vi.advanceTimersByTime(3_600_000);
  await turn();
  stop.abort();
  vi.advanceTimersByTime(999);
  await turn();
  expect(events).toEqual([]);
  vi.advanceTimersByTime(1);
  await turn();
  expect(events).toEqual(['over']);
});

test('atReadersPace() is over when all is taken, and leaves no timer, also if the end is asked for later', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const before = new AbortController();
  before.abort();
  await atReadersPace(Promise.resolve(), before.signal);
  const after = new AbortController();
  await atReadersPace(Promise.resolve(), after.signal);
  after.abort();
  expect(vi.getTimerCount()).toBe(0);
});
