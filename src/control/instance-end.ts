/** How a machine ended, as it is told and kept. */
import type { MachineEnd } from '../machine/machine.js';
import { exitCodeOf } from './exit-codes.js';
import type { RecordedEnd } from './machine-store.js';

export type InstanceEnd = Omit<RecordedEnd, 'atMs'>;

/** @param exitCode - what the command that ran it exits with, if it knows better than the machine */
export function instanceEnd(end: MachineEnd, exitCode = exitCodeOf(end)): InstanceEnd {
  return { kind: end.kind, exitCode, ...('message' in end ? { message: end.message } : {}) };
}

/** Of a machine that was for one command: that ended by itself, whoever turned the machine off then. */
export function commandEnd(exitCode: number): InstanceEnd {
  return { kind: 'power-off', exitCode };
}
