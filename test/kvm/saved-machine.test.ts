/** openSavedMachine(): one snapshot, opened once, restored many times. */
import { rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { balloon, openSavedMachine, restoreMachine, TsvmError } from '../../src/index.js';
import { endOf, temporaryDirectory } from '../support/guest.js';
import { machineFactory, TinyMachine } from '../support/kvm-machine.js';
import { note, notebook, settledHoldings } from '../support/living-kernels.js';
import { memoryFile } from '../support/snapshots.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);
let folders = 0;

/** A notebook with one note in it. */
async function saved(): Promise<string> {
  const path = join(directory, `saved${++folders}`);
  await using guest = await machineOf(notebook());
  await guest.machine.start();
  await guest.log.waitFor(/>/);
  await note(guest, 'a');
  await guest.machine.snapshot(path);
  return path;
}

test('restores with VMs made beforehand and without, each with its own memory, and forks of them', async () => {
  await using source = await openSavedMachine(await saved());
  await source.prepare(2);
  const copies: TinyMachine[] = [];
  for (let i = 0; i < 4; i++) {
    const copy = new TinyMachine(await source.restore());
    copies.push(copy);
    await copy.machine.start();
  }
  expect(await Promise.all(copies.map((copy, i) => note(copy, `n${i}`)))).toEqual(
    copies.map((_, i) => `a n${i}`),
  );
  const [fork] = await (copies[0] as TinyMachine).machine.fork(1);
  if (fork === undefined) throw new Error('no fork');
  copies.push(new TinyMachine(fork));
  expect(await Promise.all(copies.map((copy, i) => note(copy, `m${i}`)))).toEqual(
    copies.map((_, i) => `a n${i % 4} m${i}`),
  );
  await Promise.all(copies.map(({ machine }) => machine.kill()));
});

test('goes on when the folder is removed, and its machines when it is closed', async () => {
  const path = await saved();
  const source = await openSavedMachine(path);
  rmSync(path, { recursive: true });
  await using one = new TinyMachine(await source.restore());
  await source.prepare(1);
  await using two = new TinyMachine(await source.restore());
  await source.close();
  await source.close();
  for (const copy of [one, two]) {
    await copy.machine.start();
    expect(await note(copy, 'b')).toBe('a b');
  }
  await expect(source.restore()).rejects.toThrow(TsvmError);
  await expect(source.prepare(1)).rejects.toThrow(/has been closed/);
});

test('leaves nothing behind', async () => {
  const path = await saved();
  await (await openSavedMachine(path)).close();
  const before = await settledHoldings();
  for (let i = 0; i < 10; i++) {
    await using source = await openSavedMachine(path);
    await source.prepare(2);
    await using copy = new TinyMachine(await source.restore());
    if (i % 2 === 0) await copy.machine.start();
  }
  expect(await settledHoldings()).toEqual(before);
});

test('a memory file that is truncated ends the machines alone that come to see it', async () => {
  const path = await saved();
  await using source = await openSavedMachine(path);
  await source.prepare(1);
  await using copy = new TinyMachine(await source.restore());
  truncateSync(memoryFile(path), 0);
  await copy.machine.start();
  expect(await endOf(copy.machine, copy.log)).toMatchObject({
    kind: 'kvm-error',
    message: expect.stringMatching(/truncated/),
  });
  const error = await openSavedMachine(path).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: 'TSVM_SNAPSHOT' });
});

test('a machine is refused that has not the parts that it is required to have, and has them otherwise', async () => {
  const path = join(directory, 'parts');
  {
    await using guest = await machineOf(notebook(), { channel: true, devices: [balloon()] });
    await guest.machine.snapshot(path);
  }
  const before = await settledHoldings();
  {
    await using machine = await restoreMachine(path, { requires: ['channel', 'balloon'] });
    expect([machine.channel.hasCommand, machine.balloon.actualBytes]).toEqual([false, 0]);
  }
  await expect(restoreMachine(path, { requires: ['channel', 'vsock'] })).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: `${path} cannot be restored: it has no vsock, which is required`,
    hint: expect.stringContaining('`requires`'),
  });
  expect(await settledHoldings()).toEqual(before);
});
