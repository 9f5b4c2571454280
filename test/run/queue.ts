/** A lane that dies takes no more with it than these. */
const MAX_BATCH = 8;

/** The files that wait for one of several lanes. */
export class FileQueue {
  readonly #files: string[];
  readonly #lanes: number;

  /** @param files - in the order in which they are given out */
  constructor(files: readonly string[], lanes: number) {
    this.#files = [...files];
    this.#lanes = lanes;
  }

  get isEmpty(): boolean {
    return this.#files.length === 0;
  }

  /**
   * The next files for one lane. Many at first, since each batch costs the start of a process; fewer and fewer, so that the lanes end
   * at about the same time. None is in a batch twice.
   */
  take(): string[] {
    const share = Math.ceil(this.#files.length / (3 * this.#lanes));
    const next = this.#files.slice(0, Math.min(share, MAX_BATCH));
    const again = next.findIndex((file, index) => next.indexOf(file) < index);
    return this.#files.splice(0, again < 0 ? next.length : again);
  }

  /** Puts files back that a lane has not begun. */
  putBack(files: readonly string[]): void {
    this.#files.unshift(...files);
  }
}
