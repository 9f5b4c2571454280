/** Copies of one machine, made in every way that there is: none has another's random numbers, and each knows the time and its name. */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ControlServer } from '../../src/control/http/server.js';
import { Instance } from '../../src/control/instance.js';
import { instanceEnd } from '../../src/control/instance-end.js';
import { ConsoleLog } from '../../src/control/logs/console-log.js';
import { MachineStore } from '../../src/control/machine-store.js';
import { Pool } from '../../src/control/pool.js';
import { PublishedMachine } from '../../src/control/publish.js';
import {
  connect,
  type Machine,
  machineFromTemplate,
  openSavedMachine,
  RemoteMachine,
  restoreMachine,
} from '../../src/index.js';
import { channelOf, textOf } from '../support/channel.js';
import { guestConfig, temporaryDirectory } from '../support/guest.js';

const root = temporaryDirectory();
const templates = join(root, 'templates');
const store = new MachineStore(join(root, 'run'));

/** Script of the shell alone: where ring 0 is interpreted, each program costs a second. */
const SAY =
  'read h </proc/sys/kernel/hostname; read r </proc/sys/kernel/random/uuid; echo "$h"; echo "$EPOCHSECONDS"; echo "$r"';
const OLD_CLOCK = 'date -s @1000000000 >/dev/null';
const command = ['sh', '-c', SAY];
const named = (hostname: string) => ({ facts: { hostname } });

/** Facts that a copy tells of itself. */
interface Said {
  readonly hostname: string;
  readonly seconds: number;
  readonly random: string;
}

function said(text: string): Said {
  const [hostname = '', seconds = '', random = ''] = text.trimEnd().split('\n').slice(-3);
  return { hostname, seconds: Number(seconds), random };
}

/** Has a machine say it, whose guest waits for its command or for lines. */
async function ask(machine: Machine): Promise<Said> {
  await using _ = machine;
  const channel = channelOf(machine);
  const text = textOf(channel.stdout);
  if (channel.hasCommand) channel.stdin.write('\n\n');
  else channel.send({ argv: command });
  if (machine.state === 'ready') await machine.start();
  return said(await text);
}

/** Output of a machine with a name by its end. */
async function recordOf(name: string): Promise<Said> {
  const recorded = () => store.find(name).record.end;
  await expect.poll(recorded, { interval: 20, timeout: 100_000 }).toBeDefined();
  return said(readFileSync(store.find(name).folder.logPath, 'latin1'));
}

const fromTemplate = async (hostname: string): Promise<Machine> =>
  await machineFromTemplate(await guestConfig(), { directory: templates, ...named(hostname) });

/** A guest that waits for its command, and one whose command waits for two lines, and has set its clock back by years. */
let waiting = '';
const working = join(root, 'working');

beforeAll(async () => {
  await using machine = await fromTemplate('template');
  waiting = join(templates, readdirSync(templates).find((name) => /^[0-9a-f]{16}$/.test(name)) ?? '');
  const channel = channelOf(machine);
  channel.send({
    argv: [
      'sh',
      '-c',
      `${OLD_CLOCK}; echo tsvm >/proc/sys/kernel/hostname; echo up; read line; echo on; read line; ${SAY}`,
    ],
  });
  await machine.start();
  await new Promise((resolve) => channel.stdout.once('data', resolve));
  await machine.snapshot(working);
}, 300_000);

function expectFresh(copies: readonly Said[], hostnames: readonly string[]): void {
  for (const { seconds } of copies) expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(120);
  expect(copies.map(({ hostname }) => hostname)).toEqual(hostnames);
  for (const { random } of copies) expect(random).toMatch(/^[0-9a-f-]{36}$/);
  expect(new Set(copies.map(({ random }) => random)).size).toBe(copies.length);
}

test('copies of a guest that waits, by template, restore and fork, differ without being told', async () => {
  await using saved = await openSavedMachine(waiting);
  const copies = [
    await fromTemplate('first'),
    await fromTemplate('second'),
    await restoreMachine(waiting),
    await saved.restore(named('of-open')),
  ];
  await using parent = await saved.restore();
  await parent.start();
  copies.push(...(await parent.fork(2, { facts: (i) => ({ hostname: `fork-${i}` }) })));
  const all: Said[] = [];
  for (const copy of copies) all.push(await ask(copy));
  expectFresh(all, ['first', 'second', 'tsvm', 'of-open', 'fork-0', 'fork-1']);
});

test('copies by the API differ, and have the names of their machines', async () => {
  await using _pool = await Pool.open(store, 'pool');
  const copies: Said[] = [];
  for (const name of ['one', 'two']) {
    await connect('pool', store.directory).make(name, { snapshot: waiting, command });
    copies.push(await recordOf(name));
  }
  const instance = new Instance('api', new ConsoleLog(), { hostname: 'loaded' });
  const socket = join(root, 'api.sock');
  await using _server = await ControlServer.listen(instance, socket);
  const load = { snapshot_path: waiting, mem_file_path: 'memory' };
  await new RemoteMachine('api', socket).call('PUT', '/snapshot/load', load);
  copies.push(await ask(instance.machine));
  expectFresh(copies, ['one', 'two', 'loaded']);
});

test('copies of a guest whose command runs learn it when they start, unless they are not to', async () => {
  await using parent = await restoreMachine(working, named('parent'));
  await parent.start();
  parent.channel?.stdin.write('\n');
  await once(parent.channel!.stdout, 'readable'); // by then it has learned its own facts
  const published = await PublishedMachine.publish(store, 'parent', parent, { command });
  await connect('parent', store.directory).fork(['child']);
  await connect('child', store.directory).call('PUT', '/tsvm/console', { text: '\n' });
  const copies = [await recordOf('child'), await ask(parent)];
  await published.finish(instanceEnd({ kind: 'stopped' }));
  expectFresh(copies, ['child', 'parent']);
  const { hostname, seconds } = await ask(await restoreMachine(working, { facts: { fresh: false } }));
  expect([hostname, Math.floor(seconds / 1e7)]).toEqual(['tsvm', 100]);
});
