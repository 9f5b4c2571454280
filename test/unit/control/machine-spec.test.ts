/** Machines as data over the API: what is asked for by a spec is made, and every machine says its spec. */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { openApiDocument } from '../../../src/control/http/openapi.js';
import { MachineStore } from '../../../src/control/machine-store.js';
import type { Makers } from '../../../src/control/makers.js';
import { Pool } from '../../../src/control/pool.js';
import { routes } from '../../../src/control/routes.js';
import { share } from '../../../src/devices/fs/fs.js';
import { MemoryFileSystem } from '../../../src/devices/fs/memory-file-system.js';
import type { MachineConfig } from '../../../src/machine/config.js';
import { configOf, parseSpec, SPEC_SCHEMA } from '../../../src/machine/spec.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedMachine, playedWithChannel } from './played-machine.js';

/** All that Firecracker's words cannot say. */
const SPEC = {
  version: 1,
  kernel: '/vmlinux',
  cmdline: 'quiet',
  memoryBytes: 1 << 26,
  cpus: 2,
  console: 'virtio',
  guest: 'stop-port',
  command: { argv: ['job', 'a b'], tty: false },
  devices: [
    { kind: 'fs', config: { path: '/src', tag: 'src', readOnly: true, xattr: false } },
    { kind: 'console', config: { console: false, ports: [{ name: 'log', path: '/log.sock' }] } },
    { kind: 'net', config: { backend: 'user', loopback: true } },
  ],
} as const;

const store = new MachineStore(join(temporaryDirectory(), 'run'));
const makers = { make: vi.fn<Makers['make']>(), open: vi.fn<Makers['open']>() };
let pool: Pool;
let client: ControlClient;

beforeAll(async () => {
  pool = await Pool.open(store, 'pool', { makers });
  client = clientOf('pool');
});
afterAll(() => pool[Symbol.asyncDispose]());
beforeEach(() => {
  vi.resetAllMocks();
  makers.make.mockImplementation(async (draft) => playedAs(configOf(await draft.spec())));
});

const clientOf = (name: string): ControlClient => new ControlClient(store.find(name).folder.socketPath, name);
const playedAs = (config: MachineConfig) => Object.assign(playedMachine(), { config });
const ask = (name: string, body: object) => client.call('PUT', `/tsvm/machines/${name}`, { body });
const machineOf = (name: string) => clientOf(name).call<Record<string, unknown>>('GET', '/tsvm/machine');

describe('PUT /tsvm/machines/NAME', () => {
  test('makes the machine of a spec, which gives it back, and of which the same is made', async () => {
    await ask('one', { spec: SPEC });
    expect(store.find('one').record).toMatchObject({
      memoryBytes: 1 << 26,
      cpus: 2,
      command: ['job', 'a b'],
    });
    const { spec, directory, devices } = await machineOf('one');
    expect([spec, directory]).toEqual([SPEC, process.cwd()]);
    expect(devices).toEqual(SPEC.devices.map(({ kind, config }) => ({ kind, ...config })));
    await ask('two', { spec: spec as object });
    expect((await machineOf('two'))['spec']).toEqual(SPEC);
  });

  test('fills in what a spec leaves out', async () => {
    const { cmdline: _, ...spec } = parseSpec({ version: 1, kernel: '/k' });
    await ask('least', { spec: { version: 1, kernel: '/k' } });
    expect((await machineOf('least'))['spec']).toEqual(spec);
  });

  test('says Firecracker’s words as a spec, too', async () => {
    const kernel = process.execPath;
    await ask('words', { config: { 'boot-source': { kernel_image_path: kernel }, entropy: {} } });
    expect((await machineOf('words'))['spec']).toMatchObject({
      kernel,
      namesConsole: false,
      guest: 'none',
      devices: [{ kind: 'rng', config: {} }],
    });
  });

  test('hands a command to a guest with a channel', async () => {
    const send = vi.fn();
    makers.make.mockImplementation(async (draft) =>
      Object.assign(playedWithChannel(send), { config: configOf(await draft.spec()) }),
    );
    await ask('waits', { spec: { version: 1, kernel: '/k', guest: 'channel' }, command: ['job'] });
    expect(send.mock.calls).toEqual([[{ argv: ['job'] }]]);
  });

  test.each([
    [{ spec: { ...SPEC, version: 2 } }, '`spec`: version: it must be 1'],
    [{ spec: { ...SPEC, channel: true } }, "`spec`: channel: there is no such field in a machine's spec"],
    [{ spec: { ...SPEC, cpus: 65 } }, '`spec`: cpus: 65 is not from 1 to 64'],
    [
      { spec: { ...SPEC, devices: [{ kind: 'blk', config: {} }] } },
      '`spec`: devices[0]: blk.path: it must be',
    ],
    [{ spec: null }, "`spec`: a machine's spec: it must be an object"],
    [{ spec: SPEC, command: ['x'] }, 'command: only a guest with a channel waits for one'],
    [{ spec: SPEC, config: {} }, 'deserializing'],
    [{}, 'deserializing'],
  ])('refuses %j, and makes nothing', async (body, why) => {
    await expect(ask('bad', body)).rejects.toThrow(why);
    expect(makers.make).not.toHaveBeenCalled();
  });
});

test('a machine with a device that a program made for it has no spec, and says the rest', async () => {
  const devices = [share({ fileSystem: new MemoryFileSystem({}), tag: 'x' })];
  makers.make.mockResolvedValue(playedAs({ devices }));
  await ask('own', { spec: SPEC });
  const facts = await machineOf('own');
  expect(facts).toMatchObject({ cpus: 1, devices: [{ kind: 'fs' }] });
  expect(Object.keys(facts)).not.toContain('spec');
});

test('the document has the schema of a spec, where one is taken and where one is given', () => {
  const { paths } = openApiDocument(routes) as { paths: Record<string, object> };
  const fields = JSON.stringify((SPEC_SCHEMA as { properties: object }).properties);
  expect(JSON.stringify(paths['/tsvm/machines/{name}'])).toContain(fields);
  expect(JSON.stringify(paths['/tsvm/machine'])).toContain(fields);
});
