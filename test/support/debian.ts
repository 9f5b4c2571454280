/** Debians, made by debootstrap: once, for it takes half a minute and the network. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cached, isCached } from './test-cache.js';

const MINIMAL = 'debian-bookworm';
const SYSTEMD = 'debian-bookworm-systemd';
/** Sparse; a third of it is used. */
const IMAGE_MIB = 1024;

/** Why there is none, and none can be made. */
export const debianProblem = (): string | undefined => problemOf(MINIMAL, ['debootstrap', '--version']);

export const systemdProblem = (): string | undefined =>
  problemOf(SYSTEMD, ['debootstrap', '--version'], ['mke2fs', '-V']);

function problemOf(name: string, ...tools: readonly [program: string, option: string][]): string | undefined {
  if (isCached(name)) return undefined;
  if (process.env['TSVM_RIG'] === '1') return 'the rig has no network: run this test outside first';
  const missing = tools.find(([program, option]) => spawnSync(program, [option]).error !== undefined);
  return missing === undefined ? undefined : `${missing[0]} is not installed`;
}

/** Its root. */
export function debianRoot(): string {
  return cached(MINIMAL, (folder) => debootstrap(folder));
}

/** One with systemd, whose root logs in without a password: a folder, and an ext4 image of it. */
export function debianWithSystemd(): { readonly root: string; readonly image: string } {
  const folder = cached(SYSTEMD, (unfinished) => {
    const root = join(unfinished, 'root');
    mkdirSync(unfinished);
    debootstrap(root, '--include=systemd-sysv,udev,dbus');
    const shadow = join(root, 'etc/shadow');
    writeFileSync(shadow, readFileSync(shadow, 'utf8').replace(/^root:[^:]*:/, 'root::'));
    run('mke2fs', '-q', '-t', 'ext4', '-d', root, join(unfinished, 'root.ext4'), `${IMAGE_MIB}M`);
  });
  return { root: join(folder, 'root'), image: join(folder, 'root.ext4') };
}

function debootstrap(root: string, ...options: string[]): void {
  run('debootstrap', '--variant=minbase', ...options, 'bookworm', root, 'http://deb.debian.org/debian');
}

function run(program: string, ...args: string[]): void {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program}: ${stderr}${stdout?.slice(-1000)}`);
}
