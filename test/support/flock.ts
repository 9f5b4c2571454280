/** Locks for tests that do without the addon: flock(1) locks the open file that it is given, which this process has as well. */
import { spawnSync } from 'node:child_process';
import type { Flock } from '../../src/host/process/file-lock.js';

export const programFlock: Flock = (fd, mode) => {
  const flag = mode === 'shared' ? '--shared' : '--exclusive';
  const { status } = spawnSync('flock', ['--nonblock', flag, '3'], {
    stdio: ['ignore', 'inherit', 'inherit', fd],
  });
  return status === 0;
};
