/** Calls of a machine of another process that are aborted: here by their signal, there because the client has gone. */
import { getEventListeners } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { RemoteMachine } from '../../../src/control/client/connect.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedMachine } from './played-machine.js';

const path = join(temporaryDirectory(), 'api.sock');
const reason = new Error('gone');
const never = (): Promise<never> => new Promise(() => {});
const instance = new Instance('web', new ConsoleLog());
const remote = new RemoteMachine('web', path);
let server: ControlServer;

beforeAll(async () => {
  server = await ControlServer.listen(instance, path);
  const hang = { pause: never, stop: never, kill: never };
  instance.adopt(Object.assign(playedMachine(), hang));
});
afterAll(async () => await server[Symbol.asyncDispose]());

type Call = readonly [string, (options: { readonly signal: AbortSignal }) => Promise<unknown>];
const CALLS: readonly Call[] = [
  ['state', (options) => remote.state(options)],
  ['stats', (options) => remote.stats(undefined, options)],
  ['timeline', (options) => remote.timeline(options)],
  ['pause', (options) => remote.pause(options)],
  ['resume', (options) => remote.resume(options)],
  ['stop', (options) => remote.stop(undefined, options)],
  ['kill', (options) => remote.kill(undefined, options)],
  ['wait', (options) => remote.wait(options)],
  ['snapshot', (options) => remote.snapshot('/warm', false, options)],
  ['fork', (options) => remote.fork(['copy'], true, options)],
  ['make', (options) => remote.make('one', { snapshot: '/warm' }, options)],
  ['attach', (options) => remote.attach(options)],
  ['output', (options) => remote.output(options)],
  ['call', (options) => remote.call('GET', '/tsvm/machine', undefined, options)],
];

test.each(CALLS)('RemoteMachine.%s() asks nothing after an abort', async (_, call) => {
  const answered = vi.fn();
  instance.onAnswer = answered;
  await expect(call({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  expect(answered).not.toHaveBeenCalled();
});

const SLOW = CALLS.filter(([name]) => ['pause', 'stop', 'kill', 'wait'].includes(name));
test.each(SLOW)('RemoteMachine.%s() is given up while its answer is waited for', async (_, call) => {
  const controller = new AbortController();
  const calling = call(controller);
  calling.catch(() => {});
  await remote.state(); // it has been heard
  controller.abort(reason);
  await expect(calling).rejects.toBe(reason);
  expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
});

test.each([
  ['fork', 'onFork'],
  ['make', 'onMake'],
] as const)('RemoteMachine.%s() that is given up is given up by the process, too', async (name, handler) => {
  const [, call] = CALLS.find((one) => one[0] === name) as Call;
  let gone: AbortSignal | undefined;
  instance[handler] = async (_name: unknown, _more: unknown, signal?: AbortSignal) => {
    gone = signal;
    await never();
  };
  const controller = new AbortController();
  const calling = call(controller);
  calling.catch(() => {});
  await eventually(() => gone?.aborted).toBe(false);
  controller.abort(reason);
  await expect(calling).rejects.toBe(reason);
  await eventually(() => gone?.aborted).toBe(true);
});
