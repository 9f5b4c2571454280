/** How a machine ended, as it is told and kept. */
import type { MachineEnd } from '../machine/machine.js';
import type { RecordedEnd } from './machine-store.js';

export type InstanceEnd = Omit<RecordedEnd, 'atMs'>;

/** @param exitCode - what the command that ran it exits with */
export function instanceEnd(end: MachineEnd, exitCode: number): InstanceEnd {
  return { kind: end.kind, exitCode, ...('message' in end ? { message: end.message } : {}) };
}
