/** A name for a machine of a program: found by it, ended with it, and taken away again. */
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect, listMachines } from '../../../src/control/client/connect.js';
import { MachineStore } from '../../../src/control/machine-store.js';
import { type PublishOptions, publish } from '../../../src/control/publish.js';
import { TsvmError } from '../../../src/errors.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedMachine, playedWithChannel } from './played-machine.js';

const root = temporaryDirectory();
const directory = join(root, 'run');
const recordOf = (name: string) => new MachineStore(directory).find(name).record;

test('publish() makes a machine known until it ends, and its end is recorded', async () => {
  const machine = playedMachine();
  const { name } = await publish(machine, { name: 'web', command: ['serve', '80'], directory });
  expect(name).toBe('web');
  expect(listMachines(directory)).toMatchObject([
    { name: 'web', pid: process.pid, command: ['serve', '80'] },
  ]);
  const remote = connect('web', directory);
  expect(await remote.state()).toBe('Paused');
  await remote.kill();
  await expect.poll(() => recordOf('web').end, { timeout: 30_000 }).toMatchObject({ kind: 'stopped' });
  expect(() => connect('web', directory)).toThrow('web has ended');
});

test('a published machine ends with the status of its command', async () => {
  const machine = playedWithChannel(() => {});
  Object.assign(machine.channel as object, { exited: Promise.resolve(7) });
  await publish(machine, { name: 'job', directory });
  await machine.kill();
  await expect
    .poll(() => recordOf('job').end, { timeout: 30_000 })
    .toMatchObject({ kind: 'power-off', exitCode: 7 });
});

test('a publication that is disposed of takes the name away, and the machine goes on', async () => {
  const machine = playedMachine();
  {
    await using _ = await publish(machine, { name: 'short', directory });
    expect(machine.listeners.size).toBeGreaterThan(0);
  }
  expect([existsSync(join(directory, 'short')), machine.listeners.size]).toEqual([false, 0]);
  expect(machine.kill).not.toHaveBeenCalled();
  const again = await publish(machine, { name: 'short', directory });
  await machine.kill();
  await again[Symbol.asyncDispose]();
  expect(recordOf('short').end).toMatchObject({ kind: 'stopped' });
});

test('a machine that is forgotten at its end leaves nothing', async () => {
  const machine = playedMachine();
  const publication = await publish(machine, { name: 'gone', removeAtEnd: true, directory });
  await machine.kill();
  await publication[Symbol.asyncDispose]();
  expect(existsSync(join(directory, 'gone'))).toBe(false);
});

test('of two machines that ask for a name at once, one gets it, and the other leaves it alone', async () => {
  const machines = [playedMachine(), playedMachine(), playedMachine()];
  const asked = await Promise.allSettled(machines.map((one) => publish(one, { name: 'same', directory })));
  const refused = asked.filter(({ status }) => status === 'rejected');
  const reason = { code: 'TSVM_STATE', message: 'name same: a machine of that name runs already' };
  expect(refused).toEqual([
    { status: 'rejected', reason: expect.objectContaining(reason) },
    { status: 'rejected', reason: expect.objectContaining(reason) },
  ]);
  expect(await connect('same', directory).state()).toBe('Paused');
  expect(machines.filter(({ listeners }) => listeners.size > 0)).toHaveLength(1);
  await Promise.all(machines.map((one) => one.kill()));
});

/** Folder that is not this user's to use as one of machines. */
function unfit(kind: 'link' | 'file' | 'open'): string {
  const path = join(root, kind);
  if (kind === 'link') symlinkSync(root, path);
  else if (kind === 'file') writeFileSync(path, '');
  else mkdirSync(path);
  if (kind === 'open') chmodSync(path, 0o777);
  return path;
}

const WRONG: readonly (readonly [string, PublishOptions, string])[] = [
  ['a name that is none', { name: 'a/b' }, 'name "a/b": not a name for a machine'],
  ['no name', {} as PublishOptions, 'name: it must be a text'],
  ['a command that is none', { name: 'a', command: 'sh' as never }, 'command: it must be a list of texts'],
  [
    'a field that is none',
    { name: 'a', rm: true } as PublishOptions,
    'rm: there is no such field in publish',
  ],
  ['a folder that is a link', { name: 'a', directory: unfit('link') }, 'it is a link, or no directory'],
  ['a folder that is a file', { name: 'a', directory: unfit('file') }, 'no directory'],
  ['a folder of everybody', { name: 'a', directory: unfit('open') }, 'others may write there'],
];

test.each(WRONG)(
  'publish() refuses %s in one line, and the machine is as it was',
  async (_, options, why) => {
    const machine = playedMachine();
    const error = await publish(machine, { directory, ...options }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(TsvmError);
    expect((error as TsvmError).message).toContain(why);
    expect((error as TsvmError).message).not.toContain('\n');
    expect([machine.listeners.size, machine.kill.mock.calls]).toEqual([0, []]);
  },
);

test('publish() refuses a machine that has ended', async () => {
  const machine = playedMachine();
  await machine.kill();
  await expect(publish(machine, { name: 'late', directory })).rejects.toThrow('a machine that is ended');
  expect(existsSync(join(directory, 'late'))).toBe(false);
});
