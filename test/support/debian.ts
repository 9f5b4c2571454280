/** A Debian, made by debootstrap: once, for it takes half a minute and the network, which the rig has not. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tsvm/test');
const ROOT = join(CACHE, 'debian-bookworm');

/** Why there is none, and none can be made. */
export function debianProblem(): string | undefined {
  if (existsSync(ROOT)) return undefined;
  if (process.env['TSVM_RIG'] === '1') return 'the rig has no network: run this test outside first';
  return spawnSync('debootstrap', ['--version']).error === undefined
    ? undefined
    : 'debootstrap is not installed';
}

/** Its root. */
export function debianRoot(): string {
  if (existsSync(ROOT)) return ROOT;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = `${ROOT}.${process.pid}`;
  const { status, stdout, stderr } = spawnSync(
    'debootstrap',
    ['--variant=minbase', 'bookworm', unfinished, 'http://deb.debian.org/debian'],
    { encoding: 'utf8' },
  );
  if (status !== 0) {
    rmSync(unfinished, { recursive: true, force: true });
    throw new Error(`debootstrap: ${stderr}${stdout.slice(-1000)}`);
  }
  renameSync(unfinished, ROOT);
  return ROOT;
}
