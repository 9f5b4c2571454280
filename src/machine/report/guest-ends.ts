/** Ends of a guest, by what is known of it: what it printed, the status that its init reported, what it was asked for. */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { NativeVcpu } from '../../native/binding.js';
import type { MachineEnd } from '../machine.js';
import type { FatalExit } from '../vcpu-runner.js';
import { failureSummary, registerReport } from './failure-report.js';
import { PanicScanner } from './panic-scanner.js';

/** struct kvm_run, system_event.type. */
const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
const KVM_SYSTEM_EVENT_CRASH = 3;

export class GuestEnds {
  /** Of the command that its init ran. */
  exitStatus: number | undefined;
  /** It was asked to end: one that answers Ctrl-Alt-Del restarts. */
  stopRequested = false;
  readonly #panic = new PanicScanner();

  printed(bytes: Uint8Array): void {
    this.#panic.push(bytes);
  }

  powerOff(): MachineEnd {
    return { kind: 'power-off', exitStatus: this.exitStatus };
  }

  reset(): MachineEnd {
    return this.#panicked() ?? this.#restart();
  }

  /** A vCPU cannot go on. */
  fatal(vcpu: NativeVcpu, fatal: FatalExit, memory: GuestMemory | undefined): MachineEnd {
    switch (fatal.kind) {
      case 'triple-fault':
        return this.#panicked() ?? { kind: 'triple-fault' };
      case 'system-event':
        if (fatal.type === KVM_SYSTEM_EVENT_SHUTDOWN) return this.powerOff();
        if (fatal.type !== KVM_SYSTEM_EVENT_CRASH) return this.#restart();
        return this.#panicked() ?? { kind: 'panic', message: 'the guest reported a crash' };
      case 'kvm-error': {
        const message = failureSummary(vcpu, fatal.exit, fatal.errno, memory);
        return { kind: 'kvm-error', message, registers: registerReport(vcpu) };
      }
      default:
        return fatal satisfies never;
    }
  }

  #panicked(): MachineEnd | undefined {
    const message = this.#panic.panic;
    return message === undefined ? undefined : { kind: 'panic', message };
  }

  #restart(): MachineEnd {
    return { kind: this.stopRequested ? 'power-off' : 'reset', exitStatus: this.exitStatus };
  }
}

/** The end of a machine in which something threw that must not. */
export function bugEnd(where: string, error: unknown): MachineEnd & { readonly kind: 'bug' } {
  const [what, report] =
    error instanceof Error ? [`${error.name}: ${error.message}`, error.stack ?? ''] : [String(error), ''];
  return { kind: 'bug', message: `a fault in ${where}: ${what.split('\n', 1)[0]}`, report };
}
