/** The table of `tsvm doctor --production`: everything of the host that can weaken the wall around a machine. */

import type { HostTree } from '../host-tree.js';
import type { HostCheck, Verdict } from './check.js';
import { CPU_CHECKS } from './cpu.js';
import { KERNEL_CHECKS } from './kernel.js';
import { MEMORY_CHECKS } from './memory.js';
import { PROCESS_CHECKS } from './process.js';

export const HOST_CHECKS: readonly HostCheck[] = [
  ...CPU_CHECKS,
  ...MEMORY_CHECKS,
  ...KERNEL_CHECKS,
  ...PROCESS_CHECKS,
];

export interface HostFinding extends Verdict {
  readonly id: string;
  readonly what: string;
  /** Command or sentence that makes it right; absent where the check holds. */
  readonly remedy?: string;
}

/** Examines a host by every row of the table. */
export function examineHost(host: HostTree, now: Date): HostFinding[] {
  return HOST_CHECKS.map(({ id, what, remedy, examine }) => {
    const verdict = examine(host, now);
    return { id, what, ...verdict, ...(verdict.status === 'holds' ? {} : { remedy }) };
  });
}
