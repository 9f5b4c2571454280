/** Requests that a device has given to its backend: so many at a time, none while the device is drained. */
export class InFlight {
  readonly #most: number;
  #count = 0;
  #held = false;
  #waiting: (() => void)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Another may begin. */
  get hasRoom(): boolean {
    return !this.#held && this.#count < this.#most;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  async none(): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Resolves when there are none, and there is no room until `resume`. */
  async drain(): Promise<void> {
    this.#held = true;
    await this.none();
  }

  resume(): void {
    this.#held = false;
  }
}
