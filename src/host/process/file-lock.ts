/** Locks between processes: flock(2), which ends with the file's last descriptor, so also with a process that is killed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { loadAddon } from '../../native/binding.js';

/** Interval at which a process that waits for a lock tries again. */
const INTERVAL_MS = 50;

/** Call that locks, as the addon's: false if somebody else has the lock. */
export type Flock = (fd: number, mode: 'shared' | 'exclusive') => boolean;

export const flock: Flock = (fd, mode) => loadAddon().flock(fd, mode);

export interface LockOptions {
  /** Called once if another process has the lock. */
  readonly onWait?: (() => void) | undefined;
  /** Gives up waiting. */
  readonly signal?: AbortSignal | undefined;
}

/** Waits until an open file is locked. Rejects with the reason of `signal`. */
export async function waitForLock(
  lock: Flock,
  fd: number,
  mode: 'shared' | 'exclusive',
  { onWait, signal }: LockOptions = {},
): Promise<void> {
  for (let waited = false; !lock(fd, mode); waited = true) {
    if (!waited) onWait?.();
    await sleep(INTERVAL_MS);
    signal?.throwIfAborted();
  }
}
