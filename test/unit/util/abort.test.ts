/** Waits that a signal ends. */
import { getEventListeners } from 'node:events';
import { expect, test, vi } from 'vitest';
import { isAbort, untilAborted } from '../../../src/util/abort.js';

const reason = new Error('enough');
const never = (): Promise<never> => new Promise(() => {});

test('untilAborted() gives what it waited for, and listens no more', async () => {
  const { signal } = new AbortController();
  const giveUp = vi.fn();
  expect(await untilAborted(signal, async () => 7, giveUp)).toBe(7);
  expect(await untilAborted(undefined, async () => 8)).toBe(8);
  const failure = new Error('it failed');
  await expect(untilAborted(signal, () => Promise.reject(failure), giveUp)).rejects.toBe(failure);
  expect([getEventListeners(signal, 'abort'), giveUp.mock.calls]).toEqual([[], []]);
});

test('untilAborted() throws the reason, gives up once, and leaves what fails later alone', async () => {
  const controller = new AbortController();
  const giveUp = vi.fn();
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<never>((_, fail) => {
    reject = fail;
  });
  const waiting = untilAborted(controller.signal, () => promise, giveUp);
  controller.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  reject(new Error('nobody hears it'));
  expect([giveUp.mock.calls.length, getEventListeners(controller.signal, 'abort')]).toEqual([1, []]);
});

test('untilAborted() begins nothing after an abort, whose default reason is an AbortError', async () => {
  const begin = vi.fn(never);
  await expect(untilAborted(AbortSignal.abort(), begin)).rejects.toMatchObject({ name: 'AbortError' });
  expect(begin).not.toHaveBeenCalled();
});

test('isAbort() tells an abort from what else fails', () => {
  const signal = AbortSignal.abort(reason);
  expect([isAbort(reason, signal), isAbort(new Error('other'), signal), isAbort(reason, undefined)]).toEqual([
    true,
    false,
    false,
  ]);
});
