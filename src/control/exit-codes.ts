/** What `tsvm boot` exits with when the guest's command did not decide it. In the README and in `--help`. */
import type { MachineEnd } from '../machine/machine.js';

export const EXIT_CODES = {
  ok: 0,
  usage: 2,
  guestPanic: 121,
  tripleFault: 122,
  guestReset: 123,
  timeout: 124,
  hostFailure: 125,
  /** Ctrl-A x, SIGINT (128 + 2). */
  interrupted: 130,
  /** SIGTERM (128 + 15). */
  terminated: 143,
} as const;

/** The exit status for the end of a machine. */
export function exitCodeOf(end: MachineEnd): number {
  switch (end.kind) {
    case 'power-off':
      return end.exitStatus ?? EXIT_CODES.ok;
    case 'reset':
      return end.exitStatus ?? EXIT_CODES.guestReset;
    case 'panic':
      return EXIT_CODES.guestPanic;
    case 'triple-fault':
      return EXIT_CODES.tripleFault;
    case 'kvm-error':
    case 'bug':
      return EXIT_CODES.hostFailure;
    case 'stopped':
      return EXIT_CODES.interrupted;
    default:
      return end satisfies never;
  }
}
