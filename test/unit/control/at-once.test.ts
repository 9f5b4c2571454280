/** Requests that come at once: one machine is made of them, and nothing that was opened is forgotten. */
import { join } from 'node:path';
import { beforeEach, expect, test, vi } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { EMPTY_DRAFT } from '../../../src/control/draft.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { instanceEnd } from '../../../src/control/instance-end.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { MachineStore } from '../../../src/control/machine-store.js';
import type { Makers } from '../../../src/control/makers.js';
import { Pool } from '../../../src/control/pool.js';
import type { MachineConfig } from '../../../src/machine/config.js';
import type { Machine } from '../../../src/machine/machine.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedMachine } from './played-machine.js';

const root = temporaryDirectory();
const makers = { make: vi.fn<Makers['make']>(), open: vi.fn<Makers['open']>() };

/** A promise that is kept when the test says so. */
function promised<T>() {
  let keep: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => {
    keep = resolve;
  });
  return { promise, keep };
}

beforeEach(() => vi.resetAllMocks());

test('two starts at once make one machine', async () => {
  const path = join(root, 'start.sock');
  const instance = new Instance('one', new ConsoleLog(), { makers });
  await using _server = await ControlServer.listen(instance, path);
  const client = new ControlClient(path, 'one');
  const made = promised<Machine>();
  const machine = playedMachine();
  makers.make.mockReturnValue(made.promise);
  const first = client.call('PUT', '/actions', { body: { action_type: 'InstanceStart' } });
  await eventually(() => makers.make.mock.calls.length).toBe(1);
  await expect(client.call('PUT', '/actions', { body: { action_type: 'InstanceStart' } })).rejects.toThrow(
    /not supported after starting/,
  );
  const loaded = { snapshot_path: root, mem_file_path: root };
  await expect(client.call('PUT', '/snapshot/load', { body: loaded })).rejects.toThrow(/after starting/);
  await expect(client.call('PUT', '/entropy', { body: {} })).rejects.toThrow(/after starting/);
  made.keep(machine);
  await first;
  expect([makers.make, makers.open, machine.start].map(({ mock }) => mock.calls.length)).toEqual([1, 0, 1]);
});

test('a start that failed can be tried again', async () => {
  const instance = new Instance('again', new ConsoleLog(), { makers });
  makers.make.mockRejectedValueOnce(new Error('no kernel')).mockResolvedValueOnce(playedMachine());
  await expect(instance.start()).rejects.toThrow('no kernel');
  await instance.start();
  expect(instance.hasStarted).toBe(true);
});

test('a machine that is being made when its end is asked for is ended, and none is made after that', async () => {
  const instance = new Instance('late', new ConsoleLog(), { makers });
  const made = promised<Machine>();
  const machine = playedMachine();
  void machine.wait().then((end) => instance.finish(instanceEnd(end)));
  makers.make.mockReturnValue(made.promise);
  const started = instance.start();
  const killed = instance.kill();
  made.keep(machine);
  await Promise.all([started, killed]);
  expect(machine.kill).toHaveBeenCalled();
  await expect(instance.start()).rejects.toThrow(/after starting/);
});

function playedSnapshot() {
  const restore = vi.fn(async () => playedMachine());
  const dispose = vi.fn(async () => {});
  const config = { devices: [] } as unknown as MachineConfig;
  const saved = { config, restore, wishes: async () => [], [Symbol.asyncDispose]: dispose };
  return { saved, restore, dispose };
}

test('Pool opens a snapshot once for all who ask for it at once, closes none under them, and all at its end', async () => {
  const opened: ReturnType<typeof playedSnapshot>[] = [];
  const gate = promised<void>();
  makers.open.mockImplementation(async () => {
    const snapshot = playedSnapshot();
    opened.push(snapshot);
    await gate.promise;
    return snapshot.saved;
  });
  const pool = await Pool.open(new MachineStore(join(root, 'run')), 'pool', { makers });
  const folders = Array.from({ length: 24 }, (_, i) => `/warm-${i % 12}`);
  const made = folders.map((snapshot, i) => pool.instance.make(`m${i}`, { snapshot }));
  gate.keep();
  await Promise.all(made);
  expect(opened.map(({ restore }) => restore.mock.calls.length)).toEqual(new Array(12).fill(2));
  for (const { restore, dispose } of opened) {
    const [closed] = dispose.mock.invocationCallOrder;
    if (closed !== undefined) expect(closed).toBeGreaterThan(Math.max(...restore.mock.invocationCallOrder));
  }
  await pool[Symbol.asyncDispose]();
  expect(opened.map(({ dispose }) => dispose.mock.calls.length)).toEqual(new Array(12).fill(1));
});

test('Pool opens a snapshot anew that could not be opened', async () => {
  const { saved } = playedSnapshot();
  makers.open.mockRejectedValueOnce(new Error('damaged')).mockResolvedValueOnce(saved);
  await using pool = await Pool.open(new MachineStore(join(root, 'run')), 'pool', { makers });
  await expect(pool.instance.make('one', { snapshot: '/warm' })).rejects.toThrow('damaged');
  await pool.instance.make('one', { snapshot: '/warm' });
});

test('Pool refuses a name that no machine has before it opens the snapshot', async () => {
  await using pool = await Pool.open(new MachineStore(join(root, 'run')), 'pool', { makers });
  for (const name of ['', 'a%20b', 'x'.repeat(65)])
    await expect(pool.instance.make(name, { snapshot: '/warm' })).rejects.toThrow('not a name for a machine');
  expect(makers.open).not.toHaveBeenCalled();
});

test('Pool refuses a command that no guest could take before it opens the snapshot', async () => {
  await using pool = await Pool.open(new MachineStore(join(root, 'run')), 'pool', { makers });
  const command = new Array<string>(4097).fill('x');
  await expect(pool.instance.make('one', { snapshot: '/warm', command })).rejects.toThrow('4097 words');
  expect(makers.open).not.toHaveBeenCalled();
});

test('Pool refuses what is beyond its budget, copies too, and has room again when machines have ended', async () => {
  const store = new MachineStore(join(root, 'budget'));
  const memoryBytes = 128 << 20; // of a machine that says nothing else
  await using pool = await Pool.open(store, 'pool', { makers, machines: 3, memoryBytes: 2.5 * memoryBytes });
  const machines = Array.from({ length: 4 }, () => playedMachine());
  for (const machine of machines) makers.make.mockResolvedValueOnce(machine);
  await pool.instance.make('one', { draft: EMPTY_DRAFT });
  await pool.instance.make('two', { draft: EMPTY_DRAFT });
  await expect(pool.instance.make('three', { draft: EMPTY_DRAFT })).rejects.toThrow(
    'have 256 MiB of memory, and may have 320 MiB: 128 MiB more do not fit',
  );
  expect(machines[2]?.kill).toHaveBeenCalled();
  const one = new ControlClient(store.find('one').folder.socketPath, 'one');
  await expect(one.call('PUT', '/tsvm/fork', { body: { names: ['a', 'b'] } })).rejects.toThrow(
    'This process runs 2 machines, and may run 3',
  );
  await machines[0]?.kill();
  await eventually(() => store.find('one').record.end?.kind).toBe('stopped');
  await pool.instance.make('four', { draft: EMPTY_DRAFT });
});

test('Pool ends a machine that is being made when it ends itself', async () => {
  const made = promised<Machine>();
  const machine = playedMachine();
  makers.make.mockReturnValue(made.promise);
  const pool = await Pool.open(new MachineStore(join(root, 'run')), 'pool', { makers });
  const making = pool.instance.make('late', { draft: EMPTY_DRAFT });
  const closed = pool[Symbol.asyncDispose]();
  made.keep(machine);
  await making.catch(() => {});
  await closed;
  expect(machine.kill).toHaveBeenCalled();
});

test('a saved machine that has a command is given no other, and is gone when one was asked for', async () => {
  const store = new MachineStore(join(root, 'commanded'));
  await using pool = await Pool.open(store, 'pool', { makers });
  const { saved, restore } = playedSnapshot();
  const machine = Object.assign(playedMachine(), { channel: { hasCommand: true } });
  makers.open.mockResolvedValue(saved);
  restore.mockResolvedValue(machine);
  await expect(pool.instance.make('one', { snapshot: '/warm', command: ['job'] })).rejects.toThrow(
    /has a command already/,
  );
  expect(machine.kill).toHaveBeenCalled();
  expect(store.list().map(({ record }) => record.name)).toEqual(['pool']);
});
