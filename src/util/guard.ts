/**
 * The boundary of a machine: calls that come from outside (a vCPU's exit, an event of the loop, a timer, a host's socket, a
 * user's listener) are made within its guard, and what they throw is the end of that machine, not of the process.
 */

/** @param where - which call it was, for the report: `an exit of vCPU 0` */
export type OnFault = (where: string, error: unknown) => void;

export class Guard {
  readonly #onFault: OnFault;

  constructor(onFault: OnFault) {
    this.#onFault = onFault;
  }

  /** Makes the call. Undefined if it threw. A promise that it returns is followed: its rejection is a fault too. */
  run<T>(where: string, call: () => T): T | undefined {
    try {
      const result = call();
      if (result instanceof Promise) result.catch((error: unknown) => this.#onFault(where, error));
      return result;
    } catch (error) {
      this.#onFault(where, error);
      return undefined;
    }
  }

  /** A function that makes the call within the guard, for those that take callbacks. */
  wrap<Arguments extends unknown[]>(
    where: string,
    call: (...given: Arguments) => unknown,
  ): (...given: Arguments) => void {
    return (...given) => void this.run(where, () => call(...given));
  }
}
