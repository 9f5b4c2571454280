/** A machine's timeline as the phases that a report shows, by the same names whichever way the machine came about. */
import type { TimelineEntry } from '../machine/report/timeline.js';
import type { Phase } from './subject.js';

/** Each phase, and the entry of the timeline at which it ends; one that a machine does not go through has none. */
const ENDS: readonly (readonly [phase: string, entry: string])[] = [
  ['process', 'create'],
  ['create', 'vm-created'],
  ['memory', 'start'],
  ['kernel', 'init'],
];

/**
 * @param begunMs - when it was asked for, on the timeline's clock
 * @param firstMs - from then to the first byte of the program
 */
export function machinePhases(
  entries: readonly TimelineEntry[],
  begunMs: number,
  firstMs: number,
): readonly Phase[] {
  const phases: Phase[] = [];
  let at = 0;
  for (const [name, entry] of ENDS) {
    const end = (entries.find((candidate) => candidate.name === entry)?.ms ?? Number.NaN) - begunMs;
    if (!(end >= at && end <= firstMs)) continue;
    phases.push({ name, ms: end - at });
    at = end;
  }
  return [...phases, { name: 'program', ms: firstMs - at }];
}
