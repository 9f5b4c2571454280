/** End of what a command runs, for the host's reasons: a signal, or time that is up. */
import { EXIT_CODES } from '../../control/exit-codes.js';

/** Signals that end a machine, each with the status to exit with. */
const ENDING = {
  SIGINT: EXIT_CODES.interrupted,
  SIGTERM: EXIT_CODES.terminated,
  SIGHUP: EXIT_CODES.terminated,
} as const;
/** Signals that a command which runs somewhere else gets, with their numbers in Linux. */
const FORWARDED = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1, SIGQUIT: 3, SIGUSR1: 10, SIGUSR2: 12 } as const;
/** Signals that say something to a command, and do not end it for the host's reasons. */
const OTHERS = (Object.keys(FORWARDED) as (keyof typeof FORWARDED)[]).filter((signal) => !(signal in ENDING));
/** Signals of somebody who wants out: a second one ends what the first did not. */
const INSISTING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];

type Handlers = readonly (readonly [NodeJS.Signals, () => void])[];

/**
 * Listens from the start of a command to its end, over reboots: Node loses a signal that was caught while somebody listened
 * and is to be told after nobody does.
 */
export class StopSignals implements Disposable {
  /** Status to exit with, once a signal or the time limit asked for the end; the first one counts. */
  exitCode: number | undefined;
  readonly #abort = new AbortController();
  #subject: { kill(): unknown } | undefined;
  #forward: ((number: number) => void) | undefined;
  /** Signals of {@link OTHERS} that wait until it is known what a saved machine is for; undefined where that is known. */
  #held: (keyof typeof FORWARDED)[] | undefined;
  #forwarded = false;
  /** End of the time limit, as a value of `performance.now()`. */
  readonly #deadline: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #handlers: Handlers = [];

  private constructor(timeoutMs: number | undefined) {
    this.#deadline = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  }

  /** Ends a machine at the first signal. Its time is up only once it is watched, so that it is started and says what it can. */
  static ofMachine(timeoutMs?: number): StopSignals {
    const stopSignals = new StopSignals(timeoutMs);
    stopSignals.#listen(stopSignals.#ending());
    return stopSignals;
  }

  /** Ends a machine as {@link StopSignals.ofMachine}, one that may turn out to be for a command: signals that would be the command's wait until that is known. */
  static ofSavedMachine(timeoutMs?: number): StopSignals {
    const stopSignals = new StopSignals(timeoutMs);
    const held: (keyof typeof FORWARDED)[] = [];
    stopSignals.#held = held;
    stopSignals.#listen([
      ...stopSignals.#ending(),
      ...OTHERS.map((signal) => [signal, () => void held.push(signal)] as const),
    ]);
    return stopSignals;
  }

  /** Gives signals to a command, once it runs ({@link forwardTo}), and ends it at the second that insists. */
  static ofCommand(timeoutMs?: number): StopSignals {
    const stopSignals = new StopSignals(timeoutMs);
    stopSignals.switchToCommand();
    return stopSignals;
  }

  /** Goes on as {@link StopSignals.ofMachine}: what waits is this process's after all. */
  switchToMachine(): void {
    if (this.#held === undefined) return;
    this.#listen(this.#ending());
    for (const signal of this.#held.splice(0)) process.kill(process.pid, signal);
  }

  /** Goes on as {@link StopSignals.ofCommand}, with the time limit that there is: for a machine that turns out to be for a command. */
  switchToCommand(): void {
    this.#listen(
      Object.entries(FORWARDED).map(([signal, number]) => [
        signal as keyof typeof FORWARDED,
        () => this.#onForwarded(signal as keyof typeof FORWARDED, number),
      ]),
    );
    this.#startTimer();
  }

  /** Aborted at the end that was asked for. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get timedOut(): boolean {
    return this.exitCode === EXIT_CODES.timeout;
  }

  /** Kills `subject` when the end is asked for; at once if it was. Undefined: nothing is there to be killed. */
  watch(subject: { kill(): unknown } | undefined): void {
    this.#subject = subject;
    this.#startTimer();
    if (this.exitCode !== undefined) void subject?.kill();
  }

  forwardTo(forward: (number: number) => void): void {
    this.#forward = forward;
    for (const signal of this.#held?.splice(0) ?? []) forward(FORWARDED[signal]);
  }

  /** Nobody is there any more to be given signals: the first that would end a machine ends the wait for who reads its output. */
  commandEnded(): void {
    this.#listen([...this.#ending(), ...OTHERS.map((signal) => [signal, () => {}] as const)]);
  }

  #ending(): Handlers {
    return Object.entries(ENDING).map(([signal, exitCode]) => [
      signal as keyof typeof ENDING,
      () => this.#stop(exitCode),
    ]);
  }

  #startTimer(): void {
    if (this.#deadline === undefined) return;
    const leftMs = Math.max(1, this.#deadline - performance.now());
    this.#timer ??= setTimeout(() => this.#stop(EXIT_CODES.timeout), leftMs);
  }

  #onForwarded(signal: keyof typeof FORWARDED, number: number): void {
    const insists = INSISTING.includes(signal);
    if (this.#forward === undefined && this.#held !== undefined && OTHERS.includes(signal)) {
      this.#held.push(signal);
    } else if (this.#forward === undefined || (this.#forwarded && insists)) {
      this.#stop(128 + number);
    } else {
      this.#forwarded ||= insists;
      this.#forward(number);
    }
  }

  #stop(exitCode: number): void {
    this.exitCode ??= exitCode;
    this.#abort.abort();
    void this.#subject?.kill();
  }

  /** Listens by other handlers. The new ones come first: a signal that nobody listens to for a moment is lost. */
  #listen(handlers: Handlers): void {
    const before = this.#handlers;
    this.#handlers = handlers;
    for (const [signal, handler] of handlers) process.on(signal, handler);
    for (const [signal, handler] of before) process.removeListener(signal, handler);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#listen([]);
  }
}
