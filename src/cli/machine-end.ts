/** What is said and written after a machine has ended. */
import { writeFile } from 'node:fs/promises';
import { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import type { Machine, MachineEnd } from '../machine/machine.js';
import { complain } from './complain.js';

/** Says on stderr why a machine ended, if it was not meant to. */
export function explainEnd(end: MachineEnd): void {
  switch (end.kind) {
    case 'panic':
      complain(`tsvm: the guest's kernel panicked: ${end.message}`);
      return;
    case 'triple-fault':
      complain('tsvm: the guest crashed with a triple fault');
      return;
    case 'kvm-error':
      complain(`tsvm: ${end.message}\n${end.registers}`);
      return;
    case 'bug':
      complain(`tsvm: ${end.message}\n${end.report}`);
      return;
    case 'power-off':
    case 'reset':
    case 'stopped':
      return;
    default:
      end satisfies never;
  }
}

/** @throws TsvmError `TSVM_FILE` */
export async function writeTimeline(path: string, machine: Machine): Promise<void> {
  try {
    await writeFile(path, `${JSON.stringify(machine.timeline(), undefined, 2)}\n`);
  } catch (cause) {
    throw new TsvmError('TSVM_FILE', `cannot write the timeline to ${path}: ${describeFileError(cause)}`, {
      hint: 'check the path',
      cause,
    });
  }
}
