/** Machines that run already, by their names: what the commands that look at them and steer them share. */
import { setTimeout as sleep } from 'node:timers/promises';
import { RemoteMachine } from '../../control/client/connect.js';
import {
  isRunning,
  type MachineFolder,
  type MachineRecord,
  MachineStore,
} from '../../control/machine-store.js';
import { TsvmError } from '../../errors.js';

/** Timeout for a machine whose process hangs; a healthy one answers at once. */
export const ANSWER_MS = 5000;

const POLL_MS = 10;

export interface NamedMachine {
  readonly folder: MachineFolder;
  readonly record: MachineRecord;
  readonly machine: RemoteMachine;
}

/** @throws TsvmError `TSVM_STATE` if there is none of that name, or it has ended. */
export function runningMachine(name: string): NamedMachine {
  const { folder, record } = new MachineStore().find(name);
  if (isRunning(record)) return { folder, record, machine: machineIn(folder) };
  throw new TsvmError('TSVM_STATE', `${name} has ended (${describeEnd(record)})`, {
    hint: `see what it said: tsvm logs ${name}; forget it: tsvm rm ${name}`,
  });
}

/**
 * Waits until a machine that was told to end has ended for whoever looks: its record says how, and its name is free. Its answer comes a
 * little earlier. Gives up in silence after {@link ANSWER_MS}: another command sees the rest.
 */
export async function recordedEnd({ folder }: NamedMachine): Promise<void> {
  for (const deadline = performance.now() + ANSWER_MS; performance.now() < deadline; await sleep(POLL_MS)) {
    const { record } = folder;
    if (record === undefined || !isRunning(record)) return;
  }
}

export function machineIn(folder: MachineFolder): RemoteMachine {
  return new RemoteMachine(folder.name, folder.socketPath);
}

/** Describes an end in words: `exit status 0`, `panic: ...`. */
export function describeEnd({ end }: MachineRecord): string {
  if (end === undefined) return 'it runs';
  const { kind, exitCode, message } = end;
  if (kind === 'lost') return message ?? kind;
  if (kind === 'power-off') return `exit status ${exitCode}${message === undefined ? '' : `, ${message}`}`;
  return message === undefined ? kind : `${kind}: ${message}`;
}
