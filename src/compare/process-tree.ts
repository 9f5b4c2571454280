/** What processes and those below them hold, as the kernel counts it (proc_pid_smaps(5)). */
import { readFileSync } from 'node:fs';

export interface HeldMemory {
  /** Shared pages in proportion to those who share them. */
  readonly pssBytes: number;
  /** Pages that nobody else maps. */
  readonly privateBytes: number;
}

/** A process and all that descend from it and still run. */
export function descendants(pid: number): number[] {
  const children = text(`/proc/${pid}/task/${pid}/children`).trim().split(/\s+/).filter(Boolean).map(Number);
  return [pid, ...children.flatMap(descendants)];
}

/** 1 for one that has ended, whose children are init's. */
export function parentOf(pid: number): number {
  const [, parent = '1'] = /^PPid:\s*(\d+)$/m.exec(text(`/proc/${pid}/status`)) ?? [];
  return Number(parent);
}

/** Of processes together; one that has ended holds nothing. */
export function heldMemory(pids: readonly number[]): HeldMemory {
  let pssBytes = 0;
  let privateBytes = 0;
  for (const pid of pids) {
    for (const [, field, kib] of text(`/proc/${pid}/smaps_rollup`).matchAll(
      /^(Pss|Private_\w+): +(\d+) kB$/gm,
    )) {
      if (field === 'Pss') pssBytes += Number(kib) * 1024;
      else privateBytes += Number(kib) * 1024;
    }
  }
  return { pssBytes, privateBytes };
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
