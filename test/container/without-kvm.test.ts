/** Things that work where there is no KVM: containers over the default guest's root, and the comparison of the walls that are there. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { writeCpio } from '../../src/boot/cpio.js';
import type { Comparison } from '../../src/compare/compare.js';
import { S_IFDIR, S_IFLNK, S_IFREG } from '../../src/util/file-mode.js';
import { cliProblem, run, TSVM } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';

const folder = temporaryDirectory();
const env = {
  TSVM_GUEST_DIR: join(folder, 'guests'),
  TSVM_IMAGE_DIR: join(folder, 'images'),
  TSVM_RUN_DIR: join(folder, 'machines'),
};
/** A file that is no KVM stands where one is, in a mount namespace of the command's. */
const HIDE_KVM = '[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; exec "$@"';

beforeAll(() => {
  const problem = cliProblem();
  if (problem !== undefined) throw new Error(problem);
  makeGuest(join(folder, 'guests/default'));
});

/** A guest of busybox, without a kernel: what a container needs of it is its initramfs. */
function makeGuest(directory: string): void {
  mkdirSync(directory, { recursive: true });
  chmodSync(join(folder, 'guests'), 0o755);
  const manifest = {
    ...{ name: 'default', key: '0', version: '0', cmdline: '', discovery: 'cmdline' },
    ...{ kernel: 'vmlinux', bzImage: 'bzImage', initramfs: 'initramfs.cpio', rootfs: 'rootfs.ext4' },
  };
  const busybox = readFileSync('/bin/busybox');
  const initramfs = writeCpio([
    { path: 'bin', mode: S_IFDIR | 0o755 },
    { path: 'bin/busybox', mode: S_IFREG | 0o755, data: busybox },
    { path: 'bin/sh', mode: S_IFLNK | 0o777, data: Buffer.from('busybox') },
    { path: 'root', mode: S_IFDIR | 0o700 },
  ]);
  writeFileSync(join(directory, 'initramfs.cpio'), initramfs);
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
}

const withoutKvm = (args: readonly string[]) =>
  run('unshare', ['-m', 'sh', '-c', HIDE_KVM, 'sh', process.execPath, TSVM, ...args], { env });

test('tsvm run --isolation container runs a command on the default guest’s root, without an image', async () => {
  const inContainer = (...args: string[]) => withoutKvm(['run', '--isolation', 'container', ...args]);
  const first = await inContainer('uname', '-a');
  expect([first.status, first.stdout.toString()]).toEqual([0, expect.stringMatching(/^Linux tsvm /)]);
  expect(first.stderr).toMatch(/^tsvm: unpacking .*initramfs\.cpio into .*, once\n$/);

  writeFileSync(join(folder, 'variables'), 'FROM_FILE=a b\n');
  const script = 'echo $FROM_FILE; pwd; id -u; touch /x && ls -d /x; cat; exit 7';
  const options = ['-i', '--rm', '--env-file', join(folder, 'variables')];
  const again = await inContainer(...options, 'sh', '-c', script);
  expect([again.status, again.stdout.toString(), again.stderr]).toEqual([7, 'a b\n/\n0\n/x\n', '']);
});

test('--net user gives that container a network', async ({ skip }) => {
  const problem = passtProblem();
  skip(problem !== undefined, problem);
  const args = [
    'run',
    '--isolation',
    'container',
    '--net',
    'user',
    'sh',
    '-c',
    'ip -o link; cat /etc/resolv.conf',
  ];
  const { status, stdout } = await withoutKvm(args);
  expect([status, stdout.toString()]).toEqual([0, expect.stringMatching(/: eth0[\s\S]*nameserver /)]);
});

test('a machine is refused with the way that is left', async () => {
  const { status, stderr } = await withoutKvm(['run', 'uname', '-a']);
  expect([status, stderr]).toEqual([
    125,
    expect.stringMatching(/\/dev\/kvm.*\nhint: .*--isolation container\n$/),
  ]);
});

test('tsvm compare leaves machines out, and says so in each form', async () => {
  const [json, html] = [join(folder, 'out.json'), join(folder, 'out.html')];
  const parts = ['--part', 'start', '--part', 'isolation', '--runs', '1'];
  const { status, stdout, stderr } = await withoutKvm(['compare', ...parts, '--json', json, '--html', html]);
  expect([status, stderr]).toEqual([
    0,
    expect.stringMatching(/^tsvm: .*\/dev\/kvm.*only containers are compared.*\n$/),
  ]);
  const comparison = JSON.parse(readFileSync(json, 'utf8')) as Comparison;
  const note = comparison.notes.find((text) => text.startsWith('machines are left out: ')) ?? '';
  expect(note).toContain('/dev/kvm');
  expect(stdout.toString()).toContain(`note: ${note}\n`);
  expect(readFileSync(html, 'utf8')).toContain('machines are left out: ');
  const walls = comparison.starts.map(({ subject }) => subject);
  expect(walls).toContain('container');
  expect(walls).toContain('tsvm run --isolation container');
  expect(
    [...walls, ...(comparison.isolation?.columns ?? [])].filter((name) => /machine|tsvm run$/.test(name)),
  ).toEqual([]);
  expect(comparison.environment).toMatchObject({ KVM: 'none' });
}, 200_000);
