/** Processes and those below them, together. */
import { childrenOf, type HeldMemory, heldMemory } from '../host/proc.js';

/** A process and all that descend from it and still run. */
export function descendants(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(descendants)];
}

/** Memory of processes together. */
export function heldTogether(
  pids: readonly number[],
): Pick<HeldMemory, 'proportionalBytes' | 'privateBytes'> {
  const all = pids.map(heldMemory);
  return {
    proportionalBytes: all.reduce((sum, { proportionalBytes }) => sum + proportionalBytes, 0),
    privateBytes: all.reduce((sum, { privateBytes }) => sum + privateBytes, 0),
  };
}
