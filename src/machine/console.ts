/** The machine's console between the host's side and whichever device drives it. */
import type { ConsoleInput, ConsolePort } from '../devices/backends/console.js';
import type { Guard } from '../util/guard.js';

/** The guest's console, from the host's side. */
export interface MachineConsole {
  /** Types `bytes`. False if the guest does not take them all for now: they are kept, and `onDrain` tells when to go on. */
  write(bytes: Uint8Array): boolean;
  /** Calls `callback` once, when everything that was written has been taken. */
  onDrain(callback: () => void): void;
  /** Tells the guest the terminal's size, where its console can. */
  resize(columns: number, rows: number): void;
}

export class Terminal implements MachineConsole, ConsolePort {
  readonly onOutput: (bytes: Uint8Array) => void;
  readonly #guard: Guard;
  #input: ConsoleInput | undefined;
  #pending: Uint8Array | undefined;
  #drained: (() => void)[] = [];

  /** @param guard - of the machine: who types is somebody else, and no fault of the device's is theirs */
  constructor(onOutput: (bytes: Uint8Array) => void, guard: Guard) {
    this.onOutput = onOutput;
    this.#guard = guard;
  }

  /** Bytes that were typed and not taken yet. */
  get pending(): Uint8Array {
    return this.#pending ?? new Uint8Array(0);
  }

  connect(input: ConsoleInput): void {
    this.#input = input;
  }

  /** Ends the console: what is typed from now on goes nowhere, and nobody waits for it. */
  disconnect(): void {
    this.#input = undefined;
    this.#pending = undefined;
    this.onDrain();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#input === undefined) return true; // a machine without a console takes no input
    this.#pending = this.#pending === undefined ? bytes : Buffer.concat([this.#pending, bytes]);
    this.onDrain();
    return this.#pending === undefined;
  }

  /** From the device: there is room. From the host: tell me when all was taken. */
  onDrain(callback?: () => void): void {
    if (callback !== undefined) this.#drained.push(callback);
    const [input, pending] = [this.#input, this.#pending];
    if (input !== undefined && pending !== undefined) {
      const taken = this.#guard.run('the input of the console', () => input.input(pending)) ?? pending.length;
      // Its fault may have been the end of it.
      this.#pending =
        this.#input !== undefined && taken < pending.length ? pending.subarray(taken) : undefined;
    }
    if (this.#pending === undefined) for (const drained of this.#drained.splice(0)) drained();
  }

  resize(columns: number, rows: number): void {
    this.#guard.run('the size of the console', () => this.#input?.resize(columns, rows));
  }
}
