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
   * at about the same time.
   */
  take(): string[] {
    return this.#files.splice(0, Math.ceil(this.#files.length / (3 * this.#lanes)));
  }

  /** Puts files back that a lane has not begun. */
  putBack(files: readonly string[]): void {
    this.#files.unshift(...files);
  }
}
