/** Calls that the addon's threads make: a promise for each, and what must stay alive until it is done. */
import { getSystemErrorName } from 'node:util';

interface Pending {
  readonly syscall: string;
  readonly resolve: (result: number) => void;
  readonly reject: (error: Error) => void;
  /** Buffers that a thread may still use. */
  readonly buffers: unknown;
}

export class IoCalls {
  /** By the id that the addon has; ids are used again. */
  readonly #pending: (Pending | undefined)[] = [];
  readonly #free: number[] = [];

  /** Makes a call: `submit` hands it to the addon under the id it is given. */
  wait(syscall: string, buffers: unknown, submit: (id: number) => void): Promise<number> {
    return new Promise((resolve, reject) => {
      const id = this.#free.pop() ?? this.#pending.length;
      this.#pending[id] = { syscall, resolve, reject, buffers };
      try {
        submit(id);
      } catch (error) {
        this.#take(id);
        reject(error);
      }
    });
  }

  /** Settles what has ended. @param results an id and what its system call returned, or its errno negated, for each */
  done(results: Float64Array): void {
    for (let i = 0; i < results.length; i += 2) {
      const pending = this.#take(results[i] as number);
      const result = results[i + 1] as number;
      if (result >= 0) pending?.resolve(result);
      else pending?.reject(errnoError(result, pending.syscall));
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending[id];
    this.#pending[id] = undefined;
    this.#free.push(id);
    return pending;
  }
}

function errnoError(errno: number, syscall: string): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}, ${syscall}`), { code, errno, syscall });
}
