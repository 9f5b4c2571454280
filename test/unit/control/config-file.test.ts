/** `--config-file`: from the text of a file to the spec of a machine. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { configure } from '../../../src/control/firecracker/config-file.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import type { Makers } from '../../../src/control/makers.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';
import { playedMachine } from './played-machine.js';

const folder = temporaryDirectory();
const makers = { make: vi.fn<Makers['make']>(async () => playedMachine()), open: vi.fn<Makers['open']>() };
const newInstance = (): Instance => new Instance('file', new ConsoleLog(), { makers });

test('a configuration file becomes a spec, its logger logs, and it is what GET /vm/config says', async () => {
  const [log_path, socket] = [join(folder, 'log'), join(folder, 'api.sock')];
  const kernel = process.execPath;
  const file = {
    'boot-source': { kernel_image_path: kernel, boot_args: 'quiet' },
    'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
    vsock: { guest_cid: 7, uds_path: '/v.sock' },
    logger: { log_path },
  };
  const instance = newInstance();
  await configure(instance, JSON.stringify(file));
  await instance.start();
  const [draft] = makers.make.mock.calls[0] ?? [];
  expect(await draft?.spec()).toMatchObject({
    kernel,
    cmdline: 'quiet',
    namesConsole: false,
    memoryBytes: 64 << 20,
    cpus: 2,
    guest: 'none',
    devices: [{ kind: 'vsock', config: { path: '/v.sock', cid: 7 } }],
  });
  await using _server = await ControlServer.listen(instance, socket);
  expect(await new ControlClient(socket, 'file').call('GET', '/vm/config')).toMatchObject(file);
  await eventually(() => readFileSync(log_path, 'utf8')).toMatch(/\[file\] GET \/vm\/config 200\n/);
});

test.each([
  ['{', /^the configuration file: .*JSON/],
  ['{}', /^the configuration file: missing field `boot-source`$/],
  ['{"more":1}', /^the configuration file: unknown field `more`$/],
  [
    '{"machine-config":{"vcpu_count":1,"mem_size_mib":1,"smt":true}}',
    /^the configuration file: not supported: smt/,
  ],
  [
    '{"boot-source":{"kernel_image_path":"/nope"}}',
    /^the configuration file: The kernel file cannot be opened: \/nope/,
  ],
])('configure() refuses %s, and keeps nothing of it', async (text, message) => {
  const instance = newInstance();
  await expect(configure(instance, text)).rejects.toThrow(message);
  await expect(instance.draft.spec()).rejects.toThrow('without kernel configuration');
});
