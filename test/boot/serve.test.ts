/** `tsvm serve`: machines in one process, each with a name of its own. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, findGuest, listMachines } from '../../src/index.js';
import { tsvm as plain } from '../support/cli.js';
import { tsvmHere } from '../support/cli-here.js';
import { firecrackerConfig, SMALL_MEMORY_BYTES, temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const machines = join(folder, 'run');
const env = { TSVM_RUN_DIR: machines, TSVM_TEMPLATE_DIR: join(folder, 'templates') };
const tsvm = (...args: string[]) => plain(args, { env, timeoutMs: 280_000 });
const ask = (...args: string[]) => tsvmHere(args, env);
let template = '';

beforeAll(async () => {
  expect((await tsvm('run', '--memory', '64M', '--', 'true')).status).toBe(0);
  const templates = JSON.parse((await ask('template', 'list', '--json')).stdout.toString()) as {
    directory: string;
  }[];
  template = templates[0]?.directory ?? '';
  expect((await tsvm('serve', '--name', 'pool', '-d')).stdout.toString()).toBe('pool\n');
}, 300_000);
afterAll(async () => {
  await ask('kill', 'pool');
}, 60_000);

test('makes machines of a template, which run what they are told, and end for themselves', async () => {
  const numbers = [1, 2, 3, 4];
  const started = await Promise.all(
    numbers.map((i) =>
      tsvm('make', 'pool', `job${i}`, '--snapshot', template, '--', 'sh', '-c', `echo ${i}; exit ${i}`),
    ),
  );
  expect(started.map(({ status, stderr }) => [status, stderr])).toEqual(numbers.map(() => [0, '']));
  for (const i of numbers) expect((await ask('wait', `job${i}`)).status).toBe(i);
  for (const i of numbers) expect((await ask('logs', `job${i}`)).stdout.toString()).toBe(`${i}\n`);
  const pids = new Set(listMachines(machines).map(({ pid }) => pid));
  expect(pids.size).toBe(1);
  expect((await ask('ps')).stdout.toString()).toMatch(/^NAME .*\npool +Serving +vm +- /);
  // It is no machine, and no error where machines are looked at.
  const stats = await ask('stats', '--no-stream');
  expect([stats.status, stats.stdout.toString()]).toEqual([0, expect.not.stringContaining('pool')]);
  expect((await ask('inspect', 'pool')).status).toBe(0);
});

test('makes them of a configuration, and by the library; their end is not its end', async () => {
  const config = await firecrackerConfig();
  await connect('pool', machines).make('db', { config });
  const db = connect('db', machines);
  expect(await db.state()).toBe('Running');
  const events = db.events();
  const first = events.next();
  await db.pause();
  expect((await first).value).toMatchObject({ name: 'state', detail: { state: 'paused' } });
  await events.return(undefined);
  await expect(connect('pool', machines).make('db', { config })).rejects.toThrow(
    'a machine of that name runs already',
  );
  await db.kill();
  expect(await connect('pool', machines).state()).toBe('Serving');
});

test('makes one of a spec, with a share and a port, whose spec makes the same again', async () => {
  const { kernel, initrd, cmdline, discovery } = await findGuest();
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  writeFileSync(join(shared, 'hello'), 'from the host\n');
  const spec = {
    ...{ version: 1, kernel, initrd, cmdline, discovery, memoryBytes: SMALL_MEMORY_BYTES, guest: 'channel' },
    devices: [
      { kind: 'fs', config: { path: shared, tag: 'src', readOnly: true, xattr: false } },
      {
        kind: 'console',
        config: { console: false, ports: [{ name: 'log', path: join(folder, 'log.sock') }] },
      },
    ],
  };
  const command = ['sh', '-c', 'mount -t virtiofs src /mnt && cat /mnt/hello && sleep 1000'];
  const said = async () => (await ask('logs', 'shares')).stdout.toString();
  await connect('pool', machines).make('shares', { spec, command });
  await expect.poll(said, { interval: 500, timeout: 100_000 }).toBe('from the host\n');
  const specOf = async (name: string) =>
    (await connect(name, machines).call<{ spec: object }>('GET', '/tsvm/machine')).spec;
  const told = await specOf('shares');
  expect(told).toEqual({ cpus: 1, console: 'serial', ...spec });
  await connect('shares', machines).kill();
  await connect('pool', machines).make('again', { spec: told });
  expect(await specOf('again')).toEqual(told);
  await connect('again', machines).kill();
});

test.each([
  [[], 'one of --snapshot and --config-file'],
  [['--snapshot', '/nope'], '/nope is not a snapshot'],
])('tsvm make pool x %j is refused', async (args, why) => {
  const { status, stderr } = await ask('make', 'pool', 'x', ...args);
  expect([status, stderr]).toEqual([2, expect.stringContaining(why)]);
});

test('a configuration that is none is refused by the process, which goes on', async () => {
  writeFileSync(join(folder, 'bad.json'), '{"machine-config":{"vcpu_count":1,"mem_size_mib":64}}');
  const none = await ask('make', 'pool', 'x', '--config-file', join(folder, 'bad.json'));
  expect([none.status, none.stderr]).toEqual([2, expect.stringContaining('without kernel configuration')]);
  expect(existsSync(join(machines, 'x'))).toBe(false);
});

test('takes its machines with it, and leaves their records only', async () => {
  await connect('pool', machines).make('last', { snapshot: template, command: ['sleep', '1000'] });
  expect((await ask('stop', 'pool')).status).toBe(0);
  await expect.poll(() => existsSync(join(machines, 'pool')), { timeout: 30_000 }).toBe(false);
  expect(listMachines(machines).find(({ name }) => name === 'last')?.end?.kind).toBe('stopped');
});
