/** Mappings of this process, and what they hold. */
import { readFileSync } from 'node:fs';

export interface MappedMemory {
  /** Line of the mapping: addresses, permissions, offset, device, inode, path (proc(5), /proc/pid/maps). */
  readonly head: string;
  readonly residentKib: number;
  /** Part of that which is copies of its own, or has no file behind it. */
  readonly anonymousKib: number;
  /** Pages in swap space. */
  readonly swappedKib: number;
}

export function smaps(): MappedMemory[] {
  const text = readFileSync('/proc/self/smaps', 'latin1');
  return text.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).map((entry) => {
    const kib = (field: string): number =>
      Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(entry)?.[1] ?? 0);
    return {
      head: entry.slice(0, entry.indexOf('\n')),
      residentKib: kib('Rss'),
      anonymousKib: kib('Anonymous'),
      swappedKib: kib('Swap'),
    };
  });
}
