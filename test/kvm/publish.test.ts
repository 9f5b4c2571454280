/** A machine of a program under a name, as other programs steer it. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect, listMachines, type MachineControls, publish } from '../../src/index.js';
import { all } from '../support/all.js';
import { temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import { note, notebook } from '../support/living-kernels.js';

const root = temporaryDirectory();
const directory = join(root, 'run');
const told = join(root, 'told');
const machineOf = machineFactory(root);

test('lines and events of a machine are the same here and by its name, and end with it', async () => {
  await using guest = await machineOf(notebook());
  const { machine } = guest;
  await publish(machine, { name: 'told', directory: told });
  const remote = connect('told', told);
  const tellers: readonly MachineControls[] = [machine, remote];
  const lines = tellers.map((teller) => all(teller.lines()));
  const events = tellers.map((teller) => all(teller.events()));
  // Requests are answered in their order: by the second answer those before it are listened to.
  for (let i = 0; i < 2; i++) await remote.state();
  await machine.start();
  await guest.log.waitFor(/>/);
  await note(guest, 'a');
  await machine.pause();
  await machine.kill();
  const [here, there] = await Promise.all(lines);
  expect([here, there]).toEqual([['>a'], ['>a']]);
  for (const each of await Promise.all(events)) {
    // By then those of the other process are listened to.
    expect(each.slice(-3)).toMatchObject([
      { name: 'state', detail: { state: 'paused' } },
      { name: 'state', detail: { state: 'ended' } },
      { name: 'end', detail: { kind: 'stopped' } },
    ]);
  }
});

test('a published machine is paused, copied and ended by its name, and its program has it all the while', async () => {
  await using guest = await machineOf(notebook());
  await publish(guest.machine, { name: 'web', directory });
  await guest.machine.start();
  await guest.log.waitFor(/>/);
  expect(await note(guest, 'a')).toBe('a');
  const remote = connect('web', directory);
  await remote.pause();
  expect([guest.machine.state, await remote.state()]).toEqual(['paused', 'Paused']);
  await remote.resume();
  await remote.fork(['copy']);
  expect(listMachines(directory).map(({ name }) => name)).toEqual(['copy', 'web']);
  expect((await remote.stats()).process.pid).toBe(process.pid);
  expect(await note(guest, 'b')).toBe('a b');
  await remote.kill();
  expect(await guest.machine.wait()).toEqual({ kind: 'stopped' });
  await connect('copy', directory).kill();
  await expect
    .poll(() => listMachines(directory).map(({ name, end }) => [name, end?.kind]), { timeout: 30_000 })
    .toEqual([
      ['copy', 'stopped'],
      ['web', 'stopped'],
    ]);
});
