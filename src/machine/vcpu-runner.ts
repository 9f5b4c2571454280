/**
 * Drives one vCPU: the seam between its native thread and the machine.
 *
 * The thread stops at each exit that needs an answer and calls back here; the answer is given and the thread let go.
 * So "paused" is a vCPU that nobody let go, and it parks only with no I/O half done.
 */
import type { Bus } from '../bus/bus.js';
import { GuestError } from '../errors.js';
import { createExitDecoder, type IoExit, type VcpuExit } from '../kvm/exit.js';
import type { ExitAssist } from '../kvm/profiles/profile.js';
import type { NativeVcpu } from '../native/binding.js';
import type { Guard } from '../util/guard.js';

/** Exits that the machine must act on; the vCPU stays stopped. */
export type FatalExit =
  | { readonly kind: 'triple-fault' }
  | { readonly kind: 'system-event'; readonly type: number }
  | { readonly kind: 'kvm-error'; readonly exit: VcpuExit | undefined; readonly errno: number };

export interface VcpuRunnerOptions {
  readonly vcpu: NativeVcpu;
  readonly ports: Bus;
  readonly memory: Bus;
  readonly assist: ExitAssist | undefined;
  readonly guard: Guard;
  onFatal(vcpu: NativeVcpu, fatal: FatalExit): void;
}

export class VcpuRunner {
  readonly vcpu: NativeVcpu;
  readonly #ports: Bus;
  readonly #memory: Bus;
  readonly #assist: ExitAssist | undefined;
  readonly #guard: Guard;
  readonly #onFatal: (vcpu: NativeVcpu, fatal: FatalExit) => void;
  readonly #decode: () => VcpuExit;
  #pauseWanted = false;
  #stopped = false;
  /** Stopped between two instructions, with nothing pending. True before the first run. */
  #parked = true;
  #onParked: (() => void)[] = [];
  /** Exits that the host profile dealt with, beside those in `vcpu.counters`. */
  assistedExits = 0;

  constructor(options: VcpuRunnerOptions) {
    this.vcpu = options.vcpu;
    this.#ports = options.ports;
    this.#memory = options.memory;
    this.#assist = options.assist;
    this.#guard = options.guard;
    this.#onFatal = options.onFatal;
    this.#decode = createExitDecoder(this.vcpu.runPage);
    this.vcpu.onExit(
      this.#guard.wrap(`an exit of vCPU ${this.vcpu.id}`, (errno: number) => this.#exit(errno)),
    );
  }

  /** Lets the vCPU run, from the start or after `pause`. */
  run(): void {
    this.#pauseWanted = false;
    if (!this.#parked || this.#stopped) return;
    this.#parked = false;
    this.vcpu.run();
  }

  /** Stops the vCPU between two instructions. */
  pause(): Promise<void> {
    this.#pauseWanted = true;
    if (this.#parked || this.#stopped) return Promise.resolve();
    const parked = new Promise<void>((resolve) => this.#onParked.push(resolve));
    if (this.vcpu.running) this.vcpu.kick();
    return parked;
  }

  /** No exit is answered any more, and the guest takes no more time. The machine closes the VM next, which joins the thread. */
  stop(): void {
    this.#stopped = true;
    if (this.vcpu.running) this.vcpu.kick();
    this.#park();
  }

  #park(): void {
    this.#parked = true;
    for (const resolve of this.#onParked.splice(0)) resolve();
  }

  #exit(errno: number): void {
    if (this.#stopped) return;
    if (errno !== 0) {
      this.#onFatal(this.vcpu, { kind: 'kvm-error', exit: undefined, errno });
      return;
    }
    const exit = this.#decode();
    if (this.#assisted(exit)) {
      this.assistedExits++;
      this.#continue(false);
      return;
    }
    switch (exit.kind) {
      case 'io': {
        const pending = this.#io(exit);
        if (pending === undefined) this.#continue(false);
        else this.#continueAfter(pending);
        return;
      }
      case 'mmio': {
        if (!exit.write) {
          this.#memory.read(exit.addr, exit.data);
          this.#continue(false);
          return;
        }
        const pending = this.#memory.write(exit.addr, exit.data);
        if (pending === undefined) this.#continue(false);
        else this.#continueAfter(pending);
        return;
      }
      case 'interrupted':
        this.#continue(true);
        return;
      case 'halted':
      case 'irq-window':
        this.#continue(false);
        return;
      case 'shutdown':
        this.#onFatal(this.vcpu, { kind: 'triple-fault' });
        return;
      case 'system-event':
        this.#onFatal(this.vcpu, { kind: 'system-event', type: exit.type });
        return;
      case 'debug':
      case 'internal-error':
      case 'fail-entry':
      case 'other':
        this.#onFatal(this.vcpu, { kind: 'kvm-error', exit, errno: 0 });
        return;
      default:
        exit satisfies never;
    }
  }

  /** An assist that cannot read the guest's own tables has nothing to add: the exit is what it is without one. */
  #assisted(exit: VcpuExit): boolean {
    try {
      return this.#assist?.handle(this.vcpu, exit) === true;
    } catch (error) {
      if (error instanceof GuestError) return false;
      throw error;
    }
  }

  #continueAfter(pending: Promise<void>): void {
    const going = pending.then(() => this.#continue(false));
    this.#guard.run(`an access of vCPU ${this.vcpu.id} that a device took its time for`, () => going);
  }

  /** String instructions come as one exit with a count. Only a device's reset is asynchronous, and those have count 1. */
  #io(exit: IoExit): Promise<void> | undefined {
    const { data, size, count, port } = exit;
    if (count === 1) {
      if (exit.write) return this.#ports.write(port, data) ?? undefined;
      this.#ports.read(port, data);
      return undefined;
    }
    return this.#stringIo(exit.write, port, size, data);
  }

  #stringIo(write: boolean, port: number, size: number, data: Uint8Array): Promise<void> | undefined {
    let pending: Promise<void> | undefined;
    for (let at = 0; at < data.length; at += size) {
      const item = data.subarray(at, at + size);
      if (!write) {
        this.#ports.read(port, item);
      } else if (pending !== undefined) {
        const copy = item.slice();
        pending = pending.then(() => this.#ports.write(port, copy));
      } else {
        pending = this.#ports.write(port, item) ?? undefined;
      }
    }
    return pending;
  }

  /** @param clean whether the exit left nothing that KVM completes at the next entry. */
  #continue(clean: boolean): void {
    if (this.#stopped) return;
    if (this.#pauseWanted) {
      if (clean) {
        this.#park();
        return;
      }
      // Enter with an immediate exit: the instruction is finished, none follows.
      this.vcpu.kick();
    }
    this.vcpu.run();
  }
}
