/** Processes that use files below a folder. */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';

/**
 * Finds the other processes that have the folder, or something below it, open or mapped, as far as this user may see them
 * (proc_pid_fd(5), proc_pid_maps(5)).
 */
export function processesUsing(folder: string): number[] {
  const path = attempt(() => realpathSync(folder)) ?? folder;
  const isIn = (name: string): boolean => name === path || name.startsWith(`${path}/`);
  return namesIn('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      const links = `/proc/${pid}/fd`;
      if (namesIn(links).some((fd) => isIn(attempt(() => readlinkSync(`${links}/${fd}`)) ?? ''))) return true;
      return attempt(() => readFileSync(`/proc/${pid}/maps`, 'utf8'))?.includes(`${path}/`) === true;
    })
    .map(Number);
}

const namesIn = (folder: string): string[] => attempt(() => readdirSync(folder)) ?? [];

/** Reads something of a process; undefined if it has ended, or is another user's. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
