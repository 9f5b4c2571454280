import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { missing, notHere } from './skip-reasons.js';

/** Reason why there can be no TAP interface in a network namespace of a test's own here, if there cannot. */
export function tapProblem(): string | undefined {
  if (!existsSync('/dev/net/tun')) return notHere('there is no /dev/net/tun');
  const made = spawnSync('unshare', ['-n', 'ip', 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap'], {
    encoding: 'utf8',
  });
  if (made.error !== undefined) return missing('unshare');
  return made.status === 0 ? undefined : notHere(`no namespace with a TAP: ${made.stderr.trim()}`);
}
