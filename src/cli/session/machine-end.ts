/** Messages and files after a machine has ended. */
import type { Machine, MachineEnd } from '../../machine/machine.js';
import { complain } from '../complain.js';
import { lookAtOutputFile, writeOutputFile } from '../options/output-file.js';

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

/** Says on stderr, at most once, that the guest's root was full when its command had ended; `remedy` has no full stop. */
export function explainFullRoot(machine: Machine, remedy: string): void {
  const listening = machine.on('mark', ({ name }) => {
    if (name !== 'root-full') return;
    listening[Symbol.dispose]();
    complain(`tsvm: the root of the machine is full; ${remedy}`);
  });
}

/** Looks whether a timeline could be written, before there is any. @throws TsvmError `TSVM_FILE` */
export function lookAtTimeline(path: string | undefined): void {
  if (path !== undefined) lookAtOutputFile(path, timelineAt(path));
}

/** @throws TsvmError `TSVM_FILE` */
export function writeTimeline(path: string, machine: Machine): void {
  writeOutputFile(path, `${JSON.stringify(machine.timeline(), undefined, 2)}\n`, timelineAt(path));
}

const timelineAt = (path: string): string => `the timeline to ${path}`;
