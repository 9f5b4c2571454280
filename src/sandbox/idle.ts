/** What happens to a sandbox that nobody uses for a while: it is ended, or stopped where it is until it is used again. */

/** What happens to a sandbox that nobody uses. */
export type IdleEnd = 'kill' | 'pause';
export const IDLE_ENDS: readonly IdleEnd[] = ['kill', 'pause'];

/** What is done to it; each is told of failures by who calls next. */
export interface IdleActions {
  pause(): Promise<void>;
  resume(): Promise<void>;
  kill(): Promise<void>;
}

/** Watch over the uses of a sandbox. */
export class IdleWatch {
  readonly #timeoutMs: number | undefined;
  readonly #end: IdleEnd;
  readonly #actions: IdleActions;
  #uses = 0;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  /** Pause that this watch made, or is making. */
  #paused: Promise<void> | undefined;

  /** @param timeoutMs - time without a use; undefined: it may be as long as it likes */
  constructor(timeoutMs: number | undefined, end: IdleEnd, actions: IdleActions) {
    this.#timeoutMs = timeoutMs;
    this.#end = end;
    this.#actions = actions;
    this.#arm();
  }

  /** Makes a call, which is a use as long as it takes. One that was stopped goes on before. */
  async during<T>(call: () => Promise<T>): Promise<T> {
    this.#uses += 1;
    clearTimeout(this.#timer);
    try {
      await this.wake();
      return await call();
    } finally {
      this.#uses -= 1;
      this.#arm();
    }
  }

  /** Watches no longer. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Resumes it if this watch has paused it. @returns whether it has */
  async wake(): Promise<boolean> {
    const paused = this.#paused;
    if (paused === undefined) return false;
    await paused;
    // Of several that come at once, the first wakes it and the others wait for that.
    if (this.#paused === paused) {
      const resumed = this.#actions.resume();
      this.#paused = resumed;
      try {
        await resumed;
        this.#paused = undefined;
      } catch (error) {
        this.#paused = paused; // the next call tries again
        throw error;
      }
    } else await this.#paused;
    return true;
  }

  #arm(): void {
    if (this.#timeoutMs === undefined || this.#stopped || this.#uses > 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onIdle(), this.#timeoutMs);
  }

  #onIdle(): void {
    if (this.#end === 'kill') {
      this.stop();
      this.#actions.kill().catch(() => {}); // told to who kills it
      return;
    }
    const paused = this.#actions.pause();
    this.#paused = paused;
    paused.catch(() => {
      // It was paused already, or has ended: the next call is told.
      if (this.#paused === paused) this.#paused = undefined;
    });
  }
}
