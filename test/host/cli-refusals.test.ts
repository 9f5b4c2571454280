/** What commands other than `tsvm boot` refuse before they look for a KVM, in one line of error and one of hint, if there is any. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { tsvm } from '../support/cli.js';
import { tsvmHere } from '../support/cli-here.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
for (const name of ['RUN', 'IMAGE', 'TEMPLATE']) vi.stubEnv(`TSVM_${name}_DIR`, join(folder, name));
afterAll(() => void vi.unstubAllEnvs());

const configuration = join(folder, 'config.json');
writeFileSync(
  configuration,
  JSON.stringify({
    'boot-source': { kernel_image_path: '/nope' },
    'machine-config': { vcpu_count: 1, mem: 64 },
  }),
);

test.each([
  [['api', '--no-api'], '--no-api: then nobody could start the machine'],
  [['api', '--config-file', '/nope'], 'cannot read the configuration /nope: no such file'],
  [['api', '--api-sock', '/nowhere/api.sock'], 'API socket /nowhere/api.sock'],
  [['api', '--no-api', '--config-file', configuration], '`machine-config.mem_size_mib`'],

  [['boot', '-d', '--name', 'a/b'], 'not a name for a machine'],
  [['boot', '--rm'], '--rm: a machine without a name leaves nothing'],
  [['snapshot', 'here', '--differential'], '--differential: a machine that boots was restored from nothing'],
  [['pause', 'nobody'], "there is no machine 'nobody'"],
  [['logs', 'nobody'], "there is no machine 'nobody'"],

  [['compare', '--runs', '0'], '--runs'],
  [['compare', '--counts', '1,x'], '--counts'],
  [['compare', '--cpus', '4000'], '--cpus 4000'],
  [['compare', '--html', '/nowhere/page.html'], 'cannot write /nowhere/page.html'],
  [['compare', '--part', 'speed'], 'is not one of start, memory, isolation'],

  [['run'], 'there is no command'],
  [['run', '--disk', '/tmp/x', '--', 'true'], 'only reads its disks\nhint: add ,ro'],
  [['run', '--isolation', 'container', '--', 'true'], 'it needs an image'],
  [
    ['run', '--isolation', 'container', '--image', folder, '--disk', 'x', '--', 'true'],
    '--disk: a container has no such thing',
  ],
  [['run', '--isolation', 'container', '--image', '/', '-d', '--', 'true'], 'a container has no such thing'],
  [['run', '--isolation', 'jail', '--', 'true'], 'is not one of vm, container'],
  [
    ['run', '--image', folder, '--pids', '5', '--', 'true'],
    '--pids: a machine’s processes are its own kernel’s',
  ],
  [['run', '--image', folder], 'names no command'],
  [['run', '--image', '/nowhere', '--', 'true'], 'image /nowhere: there is no such file'],
  [['run', '--user', '5', '--', 'true'], '--user: it needs an image'],

  [['restore', '/nope', '--disk', 'root.img'], 'does not say which of the saved machine'],
  [['restore', '/nope', '--share', 'src'], 'does not say which of the saved machine'],
  [['restore', '/nope', '--net', '0=lan'], "there is no network 'lan'"],
  [['restore', '/nope', '--pmem', '0=a', '--pmem', '0=b'], 'pmem 0 is named twice'],
  [['restore', '/nope', '--vsock', '/v', '--disk', '0=/d'], '/nope is not a snapshot'],

  [['start', 'pool', 'a/b', '--snapshot', '/nope'], 'not a name for a machine'],
  [['start', 'pool', 'x', '--config-file', configuration, '--disk', '0=/d'], 'has it in its --config-file'],
  [['start', 'nobody', 'x', '--snapshot', '/nope'], "there is no machine 'nobody'"],

  [['template', 'rm', 'nothing'], 'there is no template nothing\nhint: tsvm template list'],
  [['top'], 'hint: for scripts: tsvm top --once'],
])('%j is refused', async (args, message) => {
  const { status, stdout, stderr } = await tsvmHere(args);
  expect([stderr, status, stdout.toString()]).toEqual([expect.stringContaining(message), 2, '']);
  expect(stderr).toMatch(/^tsvm: .*\n(hint: .*\n)?$/);
});

test('tsvm api --openapi prints the description, also with all that clients give Firecracker by default', async () => {
  const byDefault = ['--api-sock', join(folder, 'api.sock'), '--id', '0f-1', '--no-seccomp'];
  const { stdout } = await tsvm(['api', ...byDefault, '--openapi']);
  expect(JSON.parse(stdout.toString())).toMatchObject({ openapi: '3.1.0', paths: { '/actions': {} } });
});
