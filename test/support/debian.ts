/** A Debian, made by debootstrap: once, for it takes half a minute and the network. */
import { spawnSync } from 'node:child_process';
import { cached, isCached } from './test-cache.js';

const NAME = 'debian-bookworm';

/** Why there is none, and none can be made. */
export function debianProblem(): string | undefined {
  if (isCached(NAME)) return undefined;
  if (process.env['TSVM_RIG'] === '1') return 'the rig has no network: run this test outside first';
  return spawnSync('debootstrap', ['--version']).error === undefined
    ? undefined
    : 'debootstrap is not installed';
}

/** Its root. */
export function debianRoot(): string {
  return cached(NAME, (folder) => {
    const { status, stdout, stderr } = spawnSync(
      'debootstrap',
      ['--variant=minbase', 'bookworm', folder, 'http://deb.debian.org/debian'],
      { encoding: 'utf8' },
    );
    if (status !== 0) throw new Error(`debootstrap: ${stderr}${stdout.slice(-1000)}`);
  });
}
