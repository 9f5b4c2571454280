/** Requests that a device has given to its backend: so many at a time. */
export class InFlight {
  readonly #most: number;
  #count = 0;
  #waiting: (() => void)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Another may begin. */
  get hasRoom(): boolean {
    return this.#count < this.#most;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves when there are none. */
  async none(): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
