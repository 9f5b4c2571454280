/** Aborts of all that takes time in a machine's life: at every step nothing is left of it, and what was there before goes on. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  createMachine,
  deviceKinds,
  type Machine,
  openSavedMachine,
  restoreMachine,
} from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { abortedEverywhere } from '../support/abort.js';
import { temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import { note, notebook, settledHoldings } from '../support/living-kernels.js';
import { tinyKernel } from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);
const kernel = join(directory, 'kernel');
const disk = join(directory, 'disk');
writeFileSync(kernel, tinyKernel(notebook()));
writeFileSync(disk, Buffer.alloc(64 * 1024));
const devices = [deviceKinds['blk']!.fromCli(disk)];

async function killed(machines: readonly Machine[]): Promise<void> {
  for (const machine of machines) await machine.kill();
}

test('createMachine() that is aborted leaves nothing, at whatever step', async () => {
  const make = (signal?: AbortSignal) => createMachine({ kernel, memoryBytes: 4 * MIB, devices }, { signal });
  await killed([await make()]); // the first opens what the process keeps
  const before = await settledHoldings();
  const { value, steps } = await abortedEverywhere(make, async () => {
    expect(await settledHoldings()).toEqual(before);
  });
  expect(steps).toBeGreaterThan(3);
  await value.kill();
});

test('snapshots and forks, then restores, that are aborted leave nothing, and the machine goes on', async () => {
  await using guest = await machineOf(notebook(), { devices });
  const { machine } = guest;
  await machine.start();
  await guest.log.waitFor(/>/);
  const warm = join(directory, 'warm');
  const files = (): string[] => (existsSync(warm) ? readdirSync(warm) : []);
  const save = (signal: AbortSignal) => machine.snapshot(warm, { signal });
  const saved = await abortedEverywhere(save, () => expect(files()).toEqual([]));
  expect(saved.steps).toBeGreaterThan(4);
  await killed(await machine.fork(1)); // from now on its memory is shared
  const before = await settledHoldings();
  const asBefore = async (): Promise<void> => expect((await settledHoldings()).fds).toEqual(before.fds);

  const forks = await abortedEverywhere((signal) => machine.fork(3, { signal }), asBefore);
  expect(forks.steps).toBeGreaterThan(4);
  await killed(forks.value);
  expect(await note(guest, 'a')).toBe('a');

  await killed([machine]); // whose disk it is
  const none = await settledHoldings();
  const asNone = async (): Promise<void> => expect(await settledHoldings()).toEqual(none);
  const bound = { devices };
  const restored = await abortedEverywhere((signal) => restoreMachine(warm, { ...bound, signal }), asNone);
  expect(restored.steps).toBeGreaterThan(3);
  await killed([restored.value]);
  const opened = await abortedEverywhere((signal) => openSavedMachine(warm, { signal }), asNone);
  await using again = opened.value;
  const gone = AbortSignal.abort(new Error('gone'));
  await expect(again.wishes({ signal: gone })).rejects.toThrow('gone');
  await expect(again.prepare(2, { signal: gone })).rejects.toThrow('gone');
  await expect(again.restore({ ...bound, signal: gone })).rejects.toThrow('gone');
});

test('what is asked of a machine with an aborted signal is not done', async () => {
  await using guest = await machineOf(notebook());
  const { machine } = guest;
  await machine.start();
  await guest.log.waitFor(/>/);
  const options = { signal: AbortSignal.abort(new Error('gone')) };
  const asked = [
    () => machine.pause(options),
    () => machine.stop(undefined, options),
    () => machine.wait(options),
    () => machine.snapshot(join(directory, 'never'), options),
    () => machine.fork(1, options),
    () => machine.prepareForks(1, options),
    () => machine.changeDisk(0, disk, options),
  ];
  for (const ask of asked) await expect(ask()).rejects.toThrow('gone');
  expect(machine.state).toBe('running');
  await machine.pause();
  await expect(machine.resume(options)).rejects.toThrow('gone');
  expect([machine.state, existsSync(join(directory, 'never'))]).toEqual(['paused', false]);
});

test('a save that gives up its turn leaves those before and after it alone', async () => {
  await using guest = await machineOf(notebook());
  const { machine } = guest;
  await machine.start();
  await guest.log.waitFor(/>/);
  const controller = new AbortController();
  const [first, second, third] = [0, 1, 2].map((i) => {
    const saving = machine.snapshot(
      join(directory, `turn${i}`),
      i === 1 ? { signal: controller.signal } : {},
    );
    saving.catch(() => {});
    return saving;
  });
  controller.abort(new Error('gone'));
  await expect(second).rejects.toThrow('gone');
  await first;
  await third;
  const isSaved = (i: number): boolean => existsSync(join(directory, `turn${i}`, 'machine.json'));
  expect([0, 1, 2].map(isSaved)).toEqual([true, false, true]);
  expect(await note(guest, 'a')).toBe('a');
});
