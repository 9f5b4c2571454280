/** Events and lines of a machine, for loops. */
import { expect, test } from 'vitest';
import { Lifecycle } from '../../../src/machine/lifecycle.js';
import type { Machine } from '../../../src/machine/machine.js';
import { eventsOf, linesOf } from '../../../src/machine/report/feeds.js';
import { Timeline } from '../../../src/machine/report/timeline.js';
import { all } from '../../support/all.js';

/** A machine that is nothing but its lifecycle, and the number of those that listen to it. */
function played() {
  const lifecycle = new Lifecycle(new Timeline());
  const listening = new Set<object>();
  const on: Machine['on'] = (name, listener) => {
    const subscription = lifecycle.events.on(name, listener);
    listening.add(subscription);
    return {
      [Symbol.dispose]() {
        listening.delete(subscription);
        subscription[Symbol.dispose]();
      },
    };
  };
  const machine = {
    on,
    get state() {
      return lifecycle.state;
    },
  };
  return {
    lifecycle,
    listening,
    machine,
    say: (text: string) => lifecycle.terminal.onOutput(Buffer.from(text)),
  };
}

test('events() tells what happens from the call on, and ends with the machine', async () => {
  const { lifecycle, listening, machine } = played();
  const events = eventsOf(machine, {});
  lifecycle.state = 'running';
  lifecycle.mark(3, () => undefined);
  lifecycle.events.emit('deviceError', { device: 'blk', reason: 'bad' });
  await lifecycle.kill();
  const told = await all(events);
  expect(told.map(({ name, detail }) => [name, detail])).toEqual([
    ['state', { state: 'running' }],
    ['mark', expect.objectContaining({ code: 3, name: 'ready' })],
    ['deviceError', { device: 'blk', reason: 'bad' }],
    ['state', { state: 'ended' }],
    ['end', { kind: 'stopped' }],
  ]);
  expect(listening.size).toBe(0);
  expect(await eventsOf(machine, {}).next()).toEqual({ done: true, value: undefined });
});

test('events() counts what a slow reader loses, and has the end for it', async () => {
  const { lifecycle, machine } = played();
  const events = eventsOf(machine, {});
  for (let i = 0; i < 2000; i++) lifecycle.events.emit('deviceError', { device: 'blk', reason: String(i) });
  await lifecycle.kill();
  const told = await all(events);
  const at = told.findIndex(({ name }) => name === 'lost');
  // The state at the end is one of those that are lost.
  expect([at, told[at]?.detail, told.at(-1)?.name]).toEqual([1024, { count: 2001 - 1024 }, 'end']);
});

test('lines() reads the console line by line, and ends with the machine', async () => {
  const { lifecycle, listening, machine, say } = played();
  const lines = linesOf(machine, {});
  say('one\r\ntw');
  say('o\r\nrest');
  await lifecycle.kill();
  expect([await all(lines), listening.size]).toEqual([['one', 'two', 'rest'], 0]);
  expect(await linesOf(machine, {}).next()).toEqual({ done: true, value: undefined });
});

test.each(['events', 'lines'] as const)(
  'leaving a loop over %s(), or an abort, lets go of the machine',
  async (what) => {
    const { lifecycle, listening, machine, say } = played();
    const open = what === 'events' ? eventsOf : linesOf;
    const loop = open(machine, {});
    lifecycle.state = 'running';
    say('a\n');
    for await (const _ of loop) break;
    expect(listening.size).toBe(0);
    const controller = new AbortController();
    const aborted = open(machine, controller).next();
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    await expect(open(machine, controller).next()).rejects.toThrow('enough');
    expect(listening.size).toBe(0);
    await lifecycle.kill();
  },
);
