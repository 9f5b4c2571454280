/** The machine's console between the host's side and whichever device drives it. */
import type { ConsoleInput, ConsolePort } from '../devices/host.js';

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
  #input: ConsoleInput | undefined;
  #pending: Uint8Array | undefined;
  #drained: (() => void)[] = [];

  constructor(onOutput: (bytes: Uint8Array) => void) {
    this.onOutput = onOutput;
  }

  /** What was typed and not taken yet. */
  get pending(): Uint8Array {
    return this.#pending ?? new Uint8Array(0);
  }

  connect(input: ConsoleInput): void {
    this.#input = input;
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
    if (this.#pending !== undefined && this.#input !== undefined) {
      const taken = this.#input.input(this.#pending);
      this.#pending = taken < this.#pending.length ? this.#pending.subarray(taken) : undefined;
    }
    if (this.#pending === undefined) for (const drained of this.#drained.splice(0)) drained();
  }

  resize(columns: number, rows: number): void {
    this.#input?.resize(columns, rows);
  }
}
