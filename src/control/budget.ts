/** Bounds of what the machines of one process may be together, for `tsvm serve`. */
import { formatBytes } from '../util/units.js';
import { ApiError } from './api-error.js';

/** Status of an answer that says: later, perhaps (RFC 6585, 4). */
const TOO_MANY = 429;

export interface BudgetLimits {
  /** Default: no bound. */
  readonly machines?: number | undefined;
  /** Memory that the machines have together, whether they use it or share it. Default: no bound. */
  readonly memoryBytes?: number | undefined;
}

/** Counts machines and their memory, from before they are known to their ends. */
export class Budget {
  readonly #limits: BudgetLimits;
  #machines = 0;
  #memoryBytes = 0;

  constructor(limits: BudgetLimits = {}) {
    this.#limits = limits;
  }

  /** @throws ApiError if so many machines of so much memory each are too many. */
  check(count: number, memoryBytes: number): void {
    const { machines = Number.POSITIVE_INFINITY, memoryBytes: most = Number.POSITIVE_INFINITY } =
      this.#limits;
    if (this.#machines + count > machines) {
      throw new ApiError(
        `This process runs ${this.#machines} machines, and may run ${machines}: end some, or give tsvm serve a larger --max-machines.`,
        TOO_MANY,
      );
    }
    const wanted = count * memoryBytes;
    if (this.#memoryBytes + wanted > most) {
      throw new ApiError(
        `The machines of this process have ${formatBytes(this.#memoryBytes)} of memory, and may have ${formatBytes(most)}: ${formatBytes(wanted)} more do not fit. End some, or give tsvm serve a larger --max-memory.`,
        TOO_MANY,
      );
    }
  }

  /** Takes the room of one machine, until what is returned is disposed of. @throws ApiError as {@link Budget.check} */
  take(memoryBytes: number): Disposable {
    this.check(1, memoryBytes);
    this.#machines++;
    this.#memoryBytes += memoryBytes;
    let taken = true;
    return {
      [Symbol.dispose]: () => {
        if (!taken) return;
        taken = false;
        this.#machines--;
        this.#memoryBytes -= memoryBytes;
      },
    };
  }
}
