/** SIGINT, SIGTERM and SIGHUP while a command runs machines. */
import { EXIT_CODES } from '../control/exit-codes.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Listens from the start of a command to its end, over reboots: Node loses a signal that was caught while somebody listened
 * and is to be told after nobody does.
 */
export class EndSignals implements Disposable {
  /** Status that the first signal asks to exit with. */
  exitCode: number | undefined;
  /** Called at the first signal. */
  onSignal: (exitCode: number) => void = () => {};
  readonly #listener = (signal: NodeJS.Signals): void => {
    this.exitCode ??= signal === 'SIGINT' ? EXIT_CODES.interrupted : EXIT_CODES.terminated;
    this.onSignal(this.exitCode);
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.removeListener(signal, this.#listener);
  }
}
