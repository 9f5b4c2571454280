/** Things to undo, in reverse order. (AsyncDisposableStack is not in Node 20.) */
export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  defer(step: () => unknown): void {
    this.#steps.push(step);
  }

  /** Runs every step once, the last first, also after one failed; then throws the first failure. */
  async run(): Promise<void> {
    let failed = false;
    let failure: unknown;
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        if (!failed) failure = error;
        failed = true;
      }
    }
    if (failed) throw failure;
  }
}

/** Waits for all of them, also after one failed; then throws the first failure. */
export async function allDone(promises: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

/** Disposes of each, once: none is left in the list. */
export function disposeAll(disposables: Disposable[]): void {
  for (const one of disposables.splice(0)) one[Symbol.dispose]();
}
