/** Signals and time limits of a command that runs somewhere else. */
import { EXIT_CODES } from '../control/exit-codes.js';

/** Signals that go to the command, with their numbers in Linux. */
const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1, SIGQUIT: 3, SIGUSR1: 10, SIGUSR2: 12 } as const;

/** Ends a machine or a container for the host's reasons: time is up, or the second signal of somebody who wants out. */
export class Stopper {
  /** Status to exit with, if it was used. */
  exitCode: number | undefined;
  readonly #abort = new AbortController();
  #subject: { stop(): unknown } | undefined;
  #forward: ((number: number) => void) | undefined;
  #forwarded = false;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #handlers: readonly (readonly [NodeJS.Signals, () => void])[];

  constructor(timeoutMs: number | undefined) {
    this.#timer =
      timeoutMs === undefined ? undefined : setTimeout(() => this.#stop(EXIT_CODES.timeout), timeoutMs);
    this.#handlers = (Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]).map((signal) => [
      signal,
      () => this.#onSignal(signal),
    ]);
    for (const [signal, handler] of this.#handlers) process.on(signal, handler);
  }

  /** Aborted when it is used. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  watch(subject: { stop(): unknown }): void {
    this.#subject = subject;
    if (this.exitCode !== undefined) void subject.stop();
  }

  forwardTo(forward: (number: number) => void): void {
    this.#forward = forward;
  }

  #onSignal(signal: keyof typeof SIGNALS): void {
    if (this.#forward !== undefined && !(this.#forwarded && (signal === 'SIGINT' || signal === 'SIGTERM'))) {
      this.#forwarded ||= signal === 'SIGINT' || signal === 'SIGTERM';
      this.#forward(SIGNALS[signal]);
    } else {
      this.#stop(128 + SIGNALS[signal]);
    }
  }

  #stop(exitCode: number): void {
    this.exitCode ??= exitCode;
    this.#abort.abort();
    void this.#subject?.stop();
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const [signal, handler] of this.#handlers) process.removeListener(signal, handler);
  }
}
