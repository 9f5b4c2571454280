/** A machine that this process stays with until it ends: on its terminal, or in the background. */

import { EXIT_CODES, exitCodeOf } from '../control/exit-codes.js';
import type { Machine, MachineEnd } from '../machine/machine.js';
import { backgroundName, sayReady } from './background.js';
import { showBootProgress } from './boot-progress.js';
import { attachConsole } from './console.js';
import type { EndSignals } from './end-signals.js';
import { explainEnd, writeTimeline } from './machine-end.js';
import { saveWithProgress } from './save-progress.js';

export interface ForegroundOptions {
  readonly usesOurInit: boolean;
  readonly signals: EndSignals;
  /** Time limit as a value of `performance.now()`. */
  readonly deadline: number | undefined;
  /** Time limit as typed, for the message. */
  readonly timeout?: string | undefined;
  readonly timeline?: string | undefined;
  /** Folder that Ctrl-A s and SIGUSR1 save to. */
  readonly save?: string | undefined;
  readonly differential?: boolean | undefined;
}

/** Time that a signal or timeout leaves a reader of stdout to take what is still buffered. */
const DRAIN_MS = 1000;

/** Starts `machine` and stays with it. `forced`: a signal or the timeout ended it, whatever it was about to do. */
export async function runMachine(
  machine: Machine,
  options: ForegroundOptions,
): Promise<{ end: MachineEnd; exitCode: number; forced: boolean }> {
  const { usesOurInit, signals, deadline } = options;
  const apart = backgroundName() !== undefined;
  // What is typed before the guest's init has set up its console would be lost or echoed.
  const stopProgress = showBootProgress(machine);
  const save = (): void => {
    if (options.save !== undefined)
      void saveWithProgress(machine, options.save, options.differential === true);
  };
  const detach = apart
    ? () => {}
    : attachConsole(machine, {
        waitForCommand: usesOurInit,
        ...(options.save === undefined ? {} : { onSave: save }),
      });
  let forced: number | undefined;
  const stopWith = (exitCode: number): void => {
    forced ??= exitCode;
    void machine.stop();
  };
  signals.onSignal = stopWith;
  // One may have come while the machine was made.
  if (signals.exitCode !== undefined) stopWith(signals.exitCode);
  if (options.save !== undefined) process.on('SIGUSR1', save);
  const timer =
    deadline === undefined
      ? undefined
      : setTimeout(() => stopWith(EXIT_CODES.timeout), Math.max(1, deadline - performance.now()));
  try {
    if (forced === undefined) await machine.start();
    if (apart) sayReady();
    const end = await machine.wait();
    detach();
    if (forced === EXIT_CODES.timeout)
      process.stderr.write(`tsvm: the machine was ended after ${options.timeout}, as --timeout asks\n`);
    else explainEnd(end);
    if (options.timeline !== undefined) writeTimeline(options.timeline, machine);
    if (forced !== undefined) exitWithoutReader(forced);
    return { end, exitCode: forced ?? exitCodeOf(end), forced: forced !== undefined };
  } finally {
    clearTimeout(timer);
    stopProgress();
    signals.onSignal = () => {};
    process.removeListener('SIGUSR1', save);
    detach();
  }
}

/** Exits although a reader of stdout has stopped reading: Node would wait for it for ever. */
function exitWithoutReader(exitCode: number): void {
  if (process.stdout.writableLength > 0) setTimeout(() => process.exit(exitCode), DRAIN_MS).unref();
}
