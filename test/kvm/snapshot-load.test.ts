/** PUT /snapshot/load: what is refused costs nothing, and what it lets the saved machine have of the host is named in the request. */
import { cpSync, existsSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControlClient } from '../../src/control/client/client.js';
import { ControlServer } from '../../src/control/http/server.js';
import { Instance } from '../../src/control/instance.js';
import { ConsoleLog } from '../../src/control/logs/console-log.js';
import { blk, vsock } from '../../src/index.js';
import { temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import { note, notebook } from '../support/living-kernels.js';
import { editManifest, memoryFile } from '../support/snapshots.js';

const directory = temporaryDirectory();
const at = (name: string): string => join(directory, name);
const machineOf = machineFactory(directory);
const disk = at('disk');

beforeAll(async () => {
  writeFileSync(disk, Buffer.alloc(64 * 1024));
  await using guest = await machineOf(notebook(), {
    devices: [blk({ path: disk }), vsock({ path: at('v.sock') })],
  });
  await guest.machine.start();
  await guest.log.waitFor(/>/);
  await note(guest, 'a');
  await guest.machine.snapshot(at('good'));

  for (const name of ['cut', 'damaged', 'foreign']) cpSync(at('good'), at(name), { recursive: true });
  truncateSync(memoryFile(at('cut')), 0);
  writeFileSync(join(at('damaged'), 'machine.json'), '{"format":3,"checksum":"","snapshot":{}}');
  editManifest(at('foreign'), (it) => {
    it.host.cpu.vendor = 'Elsewhere';
  });
  mkdirSync(at('empty'));
  mkdirSync(at('firecracker'));
  writeFileSync(join(at('firecracker'), 'machine.json'), Buffer.from([0x37, 0x10, 0x19, 0x84, 0, 0]));
});

const instance = new Instance('loaded', new ConsoleLog());
const said: string[] = [];
instance.onBind = (name, slot) => void said.push(`${name}: ${slot}`);
const client = new ControlClient(at('api.sock'), 'api');
let server: ControlServer | undefined;
beforeAll(async () => {
  server = await ControlServer.listen(instance, at('api.sock'));
});
afterAll(async () => {
  if (instance.hasStarted) await instance.machine.kill();
  await server?.[Symbol.asyncDispose]();
});

const load = async (snapshot: string, more: object = {}): Promise<unknown> =>
  await client.call('PUT', '/snapshot/load', {
    body: { snapshot_path: snapshot, mem_file_path: 'unused', ...more },
  });

test('a snapshot that is damaged, missing, foreign or greedy is refused with a reason, and then a good one loads', async () => {
  const granted = { 'disk 0': { path: disk } };
  const vsock_override = { uds_path: at('own.sock') };
  const refused: [snapshot: string, more: object, why: RegExp][] = [
    [at('missing'), {}, /missing is not a snapshot: machine\.json: no such file/],
    [at('empty'), {}, /empty is not a snapshot/],
    [disk, {}, /disk/],
    [at('firecracker'), {}, /machine\.json is damaged: it is not JSON/],
    [at('damaged'), {}, /machine\.json is damaged: its checksum does not fit/],
    [at('cut'), {}, /memory-\w+ is 0 bytes long/],
    [at('foreign'), {}, /it was saved on another CPU/],
    [
      at('good'),
      {},
      /asks for disk 0 .* vsock .* add to the request what it may have: "tsvm_devices": \{"disk 0":\{"path":"[^"]*disk"\},"vsock":\{"path":"[^"]*v\.sock"\}\}/,
    ],
    [at('good'), { vsock_override }, /asks for disk 0/],
    [at('good'), { tsvm_devices: granted }, /asks for vsock/],
    [at('good'), { vsock_override, tsvm_devices: { 'disk 9': { path: disk } } }, /it has no disk 9/],
    [
      at('good'),
      { vsock_override, tsvm_devices: { 'disk 0': { path: '/nowhere' } } },
      /\/nowhere: no such file/,
    ],
    [at('good'), { vsock_override, tsvm_devices: { 'disk 0': {} } }, /blk\.path: it must be a path/],
    [
      at('good'),
      { network_overrides: [{ iface_id: 'eth0', host_dev_name: 'tap0' }] },
      /unknown network device eth0: the saved machine has no network card/,
    ],
    [at('good'), { clock_realtime: true }, /not supported: clock_realtime/],
    [at('good'), { vsock_override: { uds_path: at('x'), more: 1 } }, /unknown field `vsock_override.more`/],
  ];
  for (const [snapshot, more, why] of refused) {
    await expect(load(snapshot, more)).rejects.toThrow(why);
    expect(await client.call('GET', '/')).toMatchObject({ state: 'Not started' });
  }
  await load(at('good'), { vsock_override, tsvm_devices: granted, clock_realtime: false, resume_vm: true });
  expect(await client.call('GET', '/')).toMatchObject({ state: 'Running' });
  expect(said.slice(-2)).toEqual(['loaded: disk 0', 'loaded: vsock']);
  expect([existsSync(at('own.sock')), existsSync(at('v.sock'))]).toEqual([true, false]);
  expect(await client.call('GET', '/vm/config')).toMatchObject({
    drives: [{ path_on_host: disk }],
    vsock: { uds_path: at('own.sock') },
  });
  expect(instance.machine.config.devices?.map(({ kind }) => kind)).toEqual(['blk', 'vsock']);
});
