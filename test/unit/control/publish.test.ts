/** Machines with a name in a process that runs many: what fails with one of them is its own end. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { MachineStore } from '../../../src/control/machine-store.js';
import { live, PublishedMachine } from '../../../src/control/publish.js';
import { TsvmError } from '../../../src/errors.js';
import type { Machine } from '../../../src/machine/machine.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedWithChannel } from './played-machine.js';

const store = new MachineStore(join(temporaryDirectory(), 'run'));
const rejections: unknown[] = [];
const onRejection = (error: unknown): void => void rejections.push(error);
let others: NodeJS.UnhandledRejectionListener[] = [];

beforeEach(() => {
  rejections.length = 0;
  others = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', onRejection);
});
afterEach(() => {
  process.off('unhandledRejection', onRejection);
  for (const listener of others) process.on('unhandledRejection', listener);
  vi.restoreAllMocks();
});

/** A machine that runs, whose guest waits for a command, or has one. */
function played(send: () => void, hasCommand = false): Machine {
  return Object.assign(playedWithChannel(send, hasCommand) as object, { state: 'running' }) as Machine;
}

test('live() ends a machine that cannot be given its command, and nothing else', async () => {
  const machine = played(() => {
    throw new TsvmError('TSVM_CONFIG', 'command: it cannot be said');
  });
  const published = await PublishedMachine.publish(store, 'one', machine, { command: [] });
  await live(machine, published, ['job']);
  const message = expect.stringContaining('it cannot be said');
  expect(store.find('one').record.end).toMatchObject({ kind: 'bug', message });
  expect(rejections).toEqual([]);
});

test('live() gives no command to a guest that has one', async () => {
  const send = vi.fn();
  const machine = played(send, true);
  const published = await PublishedMachine.publish(store, 'three', machine, { command: [] });
  const ended = live(machine, published, []);
  await machine.kill();
  await ended;
  expect(send).not.toHaveBeenCalled();
});

test('live() leaves the console to a command that has a terminal, and its streams to one that has none', async () => {
  for (const hasTerminal of [true, false]) {
    const machine = played(() => {}, true);
    Object.assign(machine.channel as object, { hasTerminal });
    const name = `terminal-${hasTerminal}`;
    const published = await PublishedMachine.publish(store, name, machine, { command: [] });
    const ended = live(machine, published, undefined);
    expect(published.instance.input === undefined).toBe(hasTerminal);
    await machine.kill();
    await ended;
  }
});

test('what was made known is recorded as ended, and served no more, when whoever ran it met an error', async () => {
  const about = { command: [] };
  {
    await using _ = await PublishedMachine.publish(
      store,
      'failed',
      played(() => {}),
      about,
    );
    await using ended = await PublishedMachine.publish(
      store,
      'ended',
      played(() => {}),
      about,
    );
    await ended.finish({ kind: 'power-off', exitCode: 3 });
  }
  expect(store.find('failed').record.end).toMatchObject({ kind: 'stopped', exitCode: 125 });
  expect(store.find('ended').record.end).toMatchObject({ kind: 'power-off', exitCode: 3 });
  expect(existsSync(store.find('failed').folder.socketPath)).toBe(false);
});

test('names that no machine has are refused before there is a fork', async () => {
  const fork = vi.fn();
  const machine = Object.assign(
    played(() => {}),
    { fork },
  );
  await using published = await PublishedMachine.publish(store, 'parent', machine, { command: [] });
  await expect(published.instance.fork(['a', 'x'.repeat(65)])).rejects.toThrow('not a name for a machine');
  expect(fork).not.toHaveBeenCalled();
});

test('a command with a NUL in it is refused when it is asked for', async () => {
  const path = join(temporaryDirectory(), 'api.sock');
  const instance = new Instance('pool', new ConsoleLog());
  const make = vi.fn(async () => {});
  instance.onMake = make;
  await using _server = await ControlServer.listen(instance, path);
  const asked = new ControlClient(path, 'pool').call('PUT', '/tsvm/machines/one', {
    body: { snapshot: '/warm', command: ['sh', '-c', 'a\0b'] },
  });
  await expect(asked).rejects.toThrow(/`command.2`: an argument of a command has no NUL in it/);
  expect(make).not.toHaveBeenCalled();
});

test('live() says on stderr alone that what a machine leaves cannot be written', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const machine = played(() => {});
  const published = await PublishedMachine.publish(store, 'two', machine, { command: [] });
  vi.spyOn(published.instance.log, 'close').mockRejectedValue(new Error('EIO: i/o error, close'));
  const ended = live(machine, published, ['job']);
  await machine.kill();
  await ended;
  expect(store.find('two').record.end).toMatchObject({ kind: 'stopped' });
  expect(warned).toHaveBeenCalledWith(expect.stringMatching(/^two: .*EIO/), 'TsvmWarning');
  expect(rejections).toEqual([]);
});
