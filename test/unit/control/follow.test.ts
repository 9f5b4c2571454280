/** Events and lines of a machine of another process, for loops. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RemoteMachine } from '../../../src/control/client/connect.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { instanceEnd } from '../../../src/control/instance-end.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { Lifecycle } from '../../../src/machine/lifecycle.js';
import type { Machine } from '../../../src/machine/machine.js';
import { Timeline } from '../../../src/machine/report/timeline.js';
import { all } from '../../support/all.js';
import { eventually } from '../../support/eventually.js';

let folder: string;
let instance: Instance;
let lifecycle: Lifecycle;
let server: ControlServer;
let remote: RemoteMachine;
/** Clients that listen to its console, and to its events. */
let listening: number;

const disposed = (subscription: Disposable): Disposable => {
  listening++;
  return {
    [Symbol.dispose]() {
      listening--;
      subscription[Symbol.dispose]();
    },
  };
};

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsvm-test-'));
  const path = join(folder, 'api.sock');
  listening = 0;
  lifecycle = new Lifecycle(new Timeline());
  const log = new ConsoleLog();
  instance = new Instance('web', log);
  const { events } = lifecycle;
  const on: Machine['on'] = (name, listener) => events.on(name, listener);
  instance.adopt({ on, state: 'running' } as Machine);
  const [listenToLog, listenToEvents] = [log.listen.bind(log), instance.listen.bind(instance)];
  log.listen = (listener) => disposed(listenToLog(listener));
  instance.listen = (listener) => disposed(listenToEvents(listener));
  server = await ControlServer.listen(instance, path);
  remote = new RemoteMachine('web', path);
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const say = (text: string): void => lifecycle.terminal.onOutput(Buffer.from(text));

test('events() and lines() tell what happens from the call on, and end with the machine', async () => {
  say('before\r\n');
  const told = [all(remote.events()), all(remote.lines())];
  await eventually(() => listening).toBe(4);
  lifecycle.mark(3, () => undefined);
  say('o');
  say('ne\r\ntwo');
  instance.finish(instanceEnd({ kind: 'stopped' }));
  const [events, lines] = await Promise.all(told);
  expect(events).toMatchObject([
    { name: 'mark', detail: { code: 3, name: 'ready' } },
    { name: 'end', detail: { kind: 'stopped' } },
  ]);
  expect(lines).toEqual(['before', 'one', 'two']);
  await eventually(() => listening).toBe(0);
});

test.each(['events', 'lines'] as const)(
  'leaving a loop over %s(), or an abort, ends its stream',
  async (what) => {
    const controller = new AbortController();
    const loops = [remote[what](), remote[what](controller)] as const;
    const steps = loops.map(async (loop) => await loop.next());
    for (const step of steps) step.catch(() => {});
    // Each hears events and the console.
    await eventually(() => listening).toBe(4);
    lifecycle.state = 'paused';
    say('a\n');
    await Promise.all(steps);
    await loops[0].return();
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(loops[1].next()).rejects.toBe(reason);
    await expect(remote[what](controller).next()).rejects.toBe(reason);
    await eventually(() => listening).toBe(0);
  },
);

test('a loop that is left before its stream is open ends that, too', async () => {
  const loop = remote.lines();
  await loop[Symbol.asyncDispose]();
  expect(await all(loop)).toEqual([]);
  await remote.events().return();
  await eventually(() => listening).toBe(0);
});

test.each(['events', 'lines'] as const)(
  'a loop over %s() says that its machine’s process has gone',
  async (what) => {
    const loop = remote[what]();
    const rest = all<unknown>(loop);
    rest.catch(() => {});
    await eventually(() => listening).toBe(2);
    await server[Symbol.asyncDispose]();
    await expect(rest).rejects.toMatchObject({
      code: 'TSVM_STATE',
      message: 'web: what it tells has broken off',
    });
    await expect(remote[what]().next()).rejects.toMatchObject({
      message: expect.stringContaining('nobody answers'),
    });
  },
);
