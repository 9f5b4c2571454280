/** Queues of a writer that does not wait and a reader that may be slow. */
import { getEventListeners } from 'node:events';
import { expect, test, vi } from 'vitest';
import { Feed } from '../../../src/util/feed.js';
import { LineFeed, MAX_LINE_CHARACTERS } from '../../../src/util/line-feed.js';
import { all } from '../../support/all.js';

const lost = (count: number): string => `lost ${count}`;

test('Feed gives what was pushed, in order, before its reader came and after', async () => {
  const onClose = vi.fn();
  const feed = new Feed<string>({ most: 10, lost, onClose });
  feed.push('a');
  const reading = all(feed.reader);
  await new Promise((resolve) => setImmediate(resolve));
  feed.push('b');
  feed.end('last');
  feed.push('c');
  feed.end('again');
  expect([await reading, await all(feed.reader), onClose.mock.calls.length]).toEqual([
    ['a', 'b', 'last'],
    [],
    1,
  ]);
});

test('Feed says in its place how much a slow reader has lost, and has room for the last', async () => {
  const feed = new Feed<string>({ most: 3, lost, weight: (item) => item.length });
  for (const item of ['a', 'bb', 'c', 'd']) feed.push(item);
  expect(await feed.reader.next()).toEqual({ done: false, value: 'a' });
  feed.push('e');
  for (const item of ['f', 'g']) feed.push(item);
  feed.end('last');
  expect(await all(feed.reader)).toEqual(['bb', 'lost 2', 'e', 'lost 2', 'last']);
});

test('Feed says what was lost to a reader that has read all that there was room for', async () => {
  const feed = new Feed<string>({ most: 1, lost });
  for (const item of ['a', 'b']) feed.push(item);
  const { reader } = feed;
  expect([(await reader.next()).value, (await reader.next()).value]).toEqual(['a', 'lost 1']);
});

test.each(['break', 'return', 'dispose'])('Feed is closed by its reader, once: %s', async (way) => {
  const onClose = vi.fn();
  const feed = new Feed<string>({ most: 10, lost, onClose });
  const { reader } = feed;
  for (const item of ['a', 'b']) feed.push(item);
  if (way === 'break') for await (const _ of reader) break;
  else if (way === 'return') await reader.return();
  else await reader[Symbol.asyncDispose]();
  feed.push('c');
  expect([await all(reader), onClose.mock.calls.length]).toEqual([[], 1]);
});

test('Feed ends a step that waits when its reader leaves', async () => {
  const feed = new Feed<string>({ most: 10, lost });
  const steps = [feed.reader.next(), feed.reader.next()];
  await feed.reader.return();
  expect(await Promise.all(steps)).toEqual([
    { done: true, value: undefined },
    { done: true, value: undefined },
  ]);
});

test('Feed throws the reason of an abort, once, and listens no more', async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const reason = new Error('enough');
  const feed = new Feed<string>({ most: 10, lost, signal });
  feed.push('a');
  controller.abort(reason);
  await expect(feed.reader.next()).rejects.toBe(reason);
  expect([await all(feed.reader), getEventListeners(signal, 'abort')]).toEqual([[], []]);
  const late = new Feed<string>({ most: 10, lost, signal });
  await expect(late.reader.next()).rejects.toBe(reason);
  const done = new Feed<string>({ most: 10, lost, signal: new AbortController().signal });
  done.end();
  expect(await all(done.reader)).toEqual([]);
});

test('Feed that fails gives what waits before it throws', async () => {
  const feed = new Feed<string>({ most: 10, lost });
  feed.push('a');
  feed.fail(new Error('broken'));
  expect((await feed.reader.next()).value).toBe('a');
  await expect(feed.reader.next()).rejects.toThrow('broken');
  expect(await all(feed.reader)).toEqual([]);
});

test('LineFeed cuts bytes into lines, wherever they are parted', async () => {
  const text = 'one\r\nzwölf\n\n\u{feff}🙂 last\r';
  for (const size of [1, 2, 3, 100]) {
    const feed = new LineFeed({});
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += size) feed.push(bytes.subarray(at, at + size));
    feed.end();
    expect(await all(feed.reader)).toEqual(['one', 'zwölf', '', '\u{feff}🙂 last']);
  }
});

test('LineFeed gives a line without an end in pieces, and says how many lines were lost', async () => {
  const long = new LineFeed({});
  long.push(Buffer.alloc(2 * MAX_LINE_CHARACTERS + 1, 'x'));
  long.end();
  const pieces = await all(long.reader);
  expect(pieces.map(({ length }) => length)).toEqual([MAX_LINE_CHARACTERS, MAX_LINE_CHARACTERS, 1]);
  const slow = new LineFeed({});
  const count = 100_000;
  slow.push(Buffer.alloc(count, '\n'));
  slow.end();
  const lines = await all(slow.reader);
  const missing = Number(/^\[tsvm: (\d+) lines are lost/.exec(lines.at(-1) ?? '')?.[1]);
  expect(lines.length - 1 + missing).toBe(count);
});
