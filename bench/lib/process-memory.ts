/** Where this process's memory is: guest RAM apart from everything else. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessMemory {
  /** Resident pages that are not guest RAM, shared ones in proportion. */
  readonly pssBytes: number;
  /** Resident pages that are not guest RAM and that no other process maps. */
  readonly privateBytes: number;
  /** Resident pages of the machines' RAM. */
  readonly guestBytes: number;
  /** Of these, copies that a restored or forked machine has of its own. */
  readonly guestCopiedBytes: number;
  readonly threads: number;
  readonly fds: number;
}

/** The memfds that hold guest RAM and ROM, as /proc/self/smaps names their mappings. */
const GUEST_MAPPING = /\/memfd:tsvm-/;
/** Time for garbage of a boot to become collectable, and for the kernel to finish what it defers. */
const SETTLE_MS = 500;

/** After a full collection: what the machines hold, not what making them left behind. */
export async function settledMemory(): Promise<ProcessMemory> {
  for (let i = 0; i < 3; i++) {
    await sleep(SETTLE_MS);
    globalThis.gc?.();
  }
  return readProcessMemory();
}

export function readProcessMemory(): ProcessMemory {
  let pss = 0;
  let own = 0;
  let guest = 0;
  let copied = 0;
  let isGuest = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) {
      isGuest = GUEST_MAPPING.test(line);
      continue;
    }
    const match = /^(Pss|Rss|Private_Clean|Private_Dirty|Anonymous): +(\d+) kB/.exec(line);
    if (match === null) continue;
    const bytes = Number(match[2]) * 1024;
    if (isGuest) {
      if (match[1] === 'Rss') guest += bytes;
      else if (match[1] === 'Anonymous') copied += bytes;
    } else if (match[1] === 'Pss') pss += bytes;
    else if (match[1]?.startsWith('Private') === true) own += bytes;
  }
  return {
    pssBytes: pss,
    privateBytes: own,
    guestBytes: guest,
    guestCopiedBytes: copied,
    threads: readdirSync('/proc/self/task').length,
    fds: readdirSync('/proc/self/fd').length,
  };
}
