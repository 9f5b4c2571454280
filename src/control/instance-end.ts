/** How a machine ended, as it is told and kept. */
import type { Machine, MachineEnd } from '../machine/machine.js';
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

/**
 * Waits until `machine` has ended. One that is for a command ends with that, and `status` is the command's.
 *
 * @param drained - waits until all that the command said has been taken
 */
export async function endOf(
  machine: Machine,
  drained: () => Promise<void> = async () => {},
): Promise<{ end: MachineEnd; status: number | undefined }> {
  const status = await machine.channel?.exited;
  await drained();
  if (status !== undefined) await machine.stop();
  return { end: await machine.wait(), status };
}
