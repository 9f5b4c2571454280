/** The package as it is published, installed where nothing is: what there is to it without a KVM. */
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { type CliResult, run } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { installedPackage } from '../support/installed-package.js';

const REPOSITORY = join(import.meta.dirname, '../..');
const INSTALLING_MS = 300_000;
const BUILDING_MS = 300_000;

const folder = temporaryDirectory();
const env = { CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()) };
const there = (program: string, ...args: string[]): Promise<CliResult> =>
  run('sh', ['-c', 'cd "$0" && exec "$@"', folder, program, ...args], { env, timeoutMs: BUILDING_MS });

beforeAll(() => {
  cpSync(installedPackage(), folder, { recursive: true, verbatimSymlinks: true });
}, INSTALLING_MS);

test('says where its guest is from', () => {
  const notice = readFileSync(join(folder, 'node_modules/tsvm/guests/built/default/NOTICE'), 'utf8');
  expect(notice).toMatch(/linux-source-6\.12 6\.12\.\d+-\d/);
  expect(notice).toMatch(/busybox-static 1:\d/);
});

test('runs containers', async () => {
  const root = join(folder, 'root');
  mkdirSync(join(root, 'bin'), { recursive: true });
  const copied = await run('cp', ['/bin/busybox', join(root, 'bin/sh')]);
  expect(copied.status).toBe(0);
  const { status } = await there(
    'npx',
    'tsvm',
    'container',
    'run',
    '--rootfs',
    root,
    '--',
    'sh',
    '-c',
    'exit 4',
  );
  expect(status).toBe(4);
});

test('has types that a strict project takes', { timeout: BUILDING_MS }, async () => {
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  for (const name of ['@types/node', 'undici-types']) {
    symlinkSync(join(REPOSITORY, 'node_modules', name), join(folder, 'node_modules', name));
  }
  writeFileSync(
    join(folder, 'use.ts'),
    `import { blk, connect, createMachine, findGuest, type Machine, type MachineEnd } from 'tsvm';
const guest = await findGuest();
const machine: Machine = await createMachine({ kernel: guest.kernel, devices: [blk({ path: 'disk' })] });
machine.on('console', (bytes: Uint8Array) => bytes.length);
const end: MachineEnd = await machine.wait();
const status: number | undefined = end.kind === 'power-off' ? end.exitStatus : undefined;
const costs: number = (await connect('web').stats()).process.proportionalBytes;
// @ts-expect-error: no such device
blk({ file: String(status ?? costs) });
`,
  );
  const flags = [
    '--noEmit',
    '--strict',
    '--exactOptionalPropertyTypes',
    '--module',
    'nodenext',
    '--target',
    'es2022',
  ];
  const { status, stdout } = await there(join(REPOSITORY, 'node_modules/.bin/tsc'), ...flags, 'use.ts');
  expect([status, stdout.toString()]).toEqual([0, '']);
});

test('without its prebuilt addon says what to do, and that builds it from its own sources', {
  timeout: BUILDING_MS,
}, async () => {
  const release = 'node_modules/tsvm/kvm-addon/build';
  rmSync(join(folder, release), { recursive: true });
  const without = await there('npx', 'tsvm', 'boot', '--', 'true');
  expect(without.stderr).toContain('in the folder of the package: npx cmake-js@8 compile -d kvm-addon');
  const cmakeJs = join(REPOSITORY, 'node_modules/cmake-js/bin/cmake-js');
  const build = `cd node_modules/tsvm && exec '${cmakeJs}' compile -d kvm-addon`;
  const built = await there('sh', '-c', build);
  expect([built.status, built.stderr]).toEqual([0, expect.anything()]);
  const names = (addon: string) =>
    `console.log(Object.keys(require('${addon}/Release/kvm_addon.node')).join())`;
  const [again, prebuilt] = await Promise.all([
    there('node', '-e', names(`./${release}`)),
    there('node', '-e', names(join(REPOSITORY, 'kvm-addon/build'))),
  ]);
  expect([again.status, again.stdout.toString()]).toEqual([0, prebuilt.stdout.toString()]);
  expect(
    (await there('npx', 'tsvm', 'container', 'run', '--rootfs', 'root', '--', 'sh', '-c', 'exit 5')).status,
  ).toBe(5);
});
