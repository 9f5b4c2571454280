/** Calls that the addon's threads make: a promise for each, and what must stay alive until it is done. */
import { constants as osConstants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { KIB, totalBytes } from '../util/units.js';

/** Largest read that is copied out of the page cache on the calling thread: some 10 microseconds of it. */
const MAX_CACHED_BYTES = 128 * KIB;

const { EOPNOTSUPP } = osConstants.errno;

interface Pending {
  readonly syscall: string;
  readonly resolve: (result: number) => void;
  readonly reject: (error: Error) => void;
  /** Buffers that a thread may still use. */
  readonly buffers: unknown;
}

export class IoCalls {
  /** Calls that have not ended, by the id that the addon has; ids are used again. */
  readonly #pending: (Pending | undefined)[] = [];
  readonly #free: number[] = [];
  /** Tells whether to try: until the file system says that it cannot tell what is in the page cache. */
  #triesCache = true;

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

  /**
   * Reads at once what is in the page cache, and else by `call`.
   *
   * @param tryRead returns the bytes that it read at once, or an errno negated
   */
  read(buffers: readonly Uint8Array[], tryRead: () => number, call: () => Promise<number>): Promise<number> {
    const length = totalBytes(buffers);
    if (this.#triesCache && length <= MAX_CACHED_BYTES) {
      const result = tryRead();
      if (result === length) return Promise.resolve(result);
      if (result === -EOPNOTSUPP) this.#triesCache = false;
    }
    return call();
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
