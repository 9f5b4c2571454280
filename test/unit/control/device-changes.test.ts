/** PATCH of disks and cards of a machine that runs, which is played here. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { draftOf } from '../../../src/control/firecracker/draft.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import type { Machine } from '../../../src/machine/machine.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
const [socket, one, two] = ['api.sock', 'one.img', 'two.img'].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];
const changeDisk = vi.fn(async () => {});
const disk = { limit: { bytesPerSecond: 9 }, setLimit: vi.fn() };
const card = { limits: { sending: {}, receiving: { opsPerSecond: 3 } }, setLimit: vi.fn() };
const limiter = { ops: { size: 10, refill_time: 1000 } };

let server: ControlServer;
let client: ControlClient;
beforeAll(async () => {
  for (const path of [one, two]) writeFileSync(path, Buffer.alloc(1024));
  const instance = new Instance('played', new ConsoleLog());
  draftOf(instance).set({
    drives: [{ drive_id: 'a', path_on_host: one, is_root_device: false }],
    'network-interfaces': [{ iface_id: 'eth0', host_dev_name: 'tap0' }],
  });
  const machine = { state: 'running', config: {}, on: () => {}, disks: [disk], cards: [card], changeDisk };
  instance.adopt(machine as unknown as Machine);
  server = await ControlServer.listen(instance, socket);
  client = new ControlClient(socket, 'played');
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(() => vi.clearAllMocks());

const patch = (path: string, body: object) => client.call('PATCH', path, { body });

test('a disk gets another file and a limit, and keeps the bucket that is not named', async () => {
  await patch('/drives/a', { drive_id: 'a', path_on_host: two, rate_limiter: limiter });
  expect(changeDisk.mock.calls).toEqual([[0, two]]);
  expect(disk.setLimit.mock.calls).toEqual([[{ bytesPerSecond: 9, opsPerSecond: 10, opsBurst: 10 }]]);
  expect(await client.call('GET', '/vm/config')).toMatchObject({ drives: [{ path_on_host: two }] });
  await patch('/drives/a', { drive_id: 'a', path_on_host: two, rate_limiter: null });
  expect(changeDisk.mock.calls).toEqual([
    [0, two],
    [0, two],
  ]);
  expect(disk.setLimit).toHaveBeenCalledTimes(1);
});

test('a disk whose file is not named keeps it', async () => {
  await patch('/drives/a', { drive_id: 'a', rate_limiter: limiter });
  expect([changeDisk, disk.setLimit].map(({ mock }) => mock.calls.length)).toEqual([0, 1]);
});

test('a limit that nobody can keep changes nothing', async () => {
  const rate_limiter = { bandwidth: { size: 2 ** 40, refill_time: 1 } };
  const body = { drive_id: 'a', path_on_host: one, rate_limiter };
  await expect(patch('/drives/a', body)).rejects.toThrow('bytesPerSecond');
  expect([changeDisk, disk.setLimit].map(({ mock }) => mock.calls.length)).toEqual([0, 0]);
});

test('a card gets limits each way', async () => {
  const body = { iface_id: 'eth0', rx_rate_limiter: { bandwidth: { size: 500, refill_time: 500 } } };
  await patch('/network-interfaces/eth0', body);
  expect(card.setLimit.mock.calls).toEqual([
    [{ receiving: { bytesPerSecond: 1000, bytesBurst: 500, opsPerSecond: 3 } }],
  ]);
  await expect(patch('/network-interfaces/eth1', { iface_id: 'eth1' })).rejects.toThrow(
    'Invalid interface ID',
  );
});
