/** tsvm as its users start it, and what its `--timeline` says. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { MachineTimeline } from '../../src/index.js';

export const TSVM = fileURLToPath(new URL('../../../../dist/bin/tsvm.cjs', import.meta.url));

/** When a phase came, in milliseconds from the start of the process; NaN if it did not. */
export function readPhases(timelinePath: string): (name: string) => number {
  const { phases } = JSON.parse(readFileSync(timelinePath, 'utf8')) as MachineTimeline;
  return (name) => phases.find((phase) => phase.name === name)?.ms ?? Number.NaN;
}
