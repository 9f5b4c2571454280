/** The package as it is published, installed where nothing is: it boots, and its types are there. */
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type CliResult, run } from '../support/cli.js';
import { inRig, temporaryDirectory } from '../support/guest.js';

const REPOSITORY = join(import.meta.dirname, '../..');

describe.skipIf(inRig)(`the package${inRig ? ': the rig has no registry to install it from' : ''}`, () => {
  const folder = temporaryDirectory();
  // No guest but the one that came with it.
  const env = { TSVM_GUEST_DIR: join(folder, 'none'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };
  const there = (program: string, ...args: string[]): Promise<CliResult> =>
    run('sh', ['-c', 'cd "$0" && exec "$@"', folder, program, ...args], { env, timeoutMs: 280_000 });

  beforeAll(async () => {
    const packed = await run(join(REPOSITORY, 'scripts/pack'), [folder]);
    expect([packed.status, packed.stderr]).toEqual([0, '']);
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const file = packed.stdout.toString().trim();
    const installed = await there('npm', 'install', '--no-audit', '--no-fund', `./${file}`);
    expect([installed.status, installed.stderr]).toEqual([0, '']);
  }, 300_000);

  test('boots at once, with its own guest, and says where that is from', async () => {
    const { status, stdout } = await there('npx', 'tsvm', 'boot', '--memory', '64M', '--', 'uname', '-r');
    expect([status, stdout.toString()]).toEqual([0, expect.stringMatching(/^6\.\d+\.\d+\n$/)]);
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

  test('has types that a strict project takes', async () => {
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

  test('without its prebuilt addon says what to do, and that builds it from its own sources', async () => {
    rmSync(join(folder, 'node_modules/tsvm/kvm-addon/build'), { recursive: true });
    const without = await there('npx', 'tsvm', 'boot', '--', 'true');
    expect(without.stderr).toContain('in the folder of the package: npx cmake-js@8 compile -d kvm-addon');
    const cmakeJs = join(REPOSITORY, 'node_modules/cmake-js/bin/cmake-js');
    const build = `cd node_modules/tsvm && exec '${cmakeJs}' compile -d kvm-addon`;
    const built = await there('sh', '-c', build);
    expect([built.status, built.stderr]).toEqual([0, expect.anything()]);
    const { status, stdout } = await there('npx', 'tsvm', 'boot', '--memory', '64M', '--', 'echo', 'built');
    expect([status, stdout.toString()]).toEqual([0, 'built\n']);
  });
});
