/** A machine that this process stays with until it ends: on its terminal, or in the background. */

import { exitCodeOf } from '../../control/exit-codes.js';
import type { Machine, MachineEnd } from '../../machine/machine.js';
import { backgroundName, reportReady } from '../background.js';
import { showBootProgress } from './boot-progress.js';
import { attachConsole } from './console.js';
import { explainEnd, writeTimeline } from './machine-end.js';
import { saveWithProgress } from './save-progress.js';
import type { StopSignals } from './stop-signals.js';

export interface ForegroundOptions {
  readonly usesOurInit: boolean;
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
export async function stayWithMachine(
  machine: Machine,
  stopSignals: StopSignals,
  options: ForegroundOptions,
): Promise<{ end: MachineEnd; exitCode: number; forced: boolean }> {
  const inBackground = backgroundName() !== undefined;
  // What is typed before the guest's init has set up its console would be lost or echoed.
  const stopProgress = showBootProgress(machine);
  const save = (): void => {
    if (options.save !== undefined)
      void saveWithProgress(machine, options.save, options.differential === true);
  };
  const detach = inBackground
    ? () => {}
    : attachConsole(machine, {
        waitForCommand: options.usesOurInit,
        ...(options.save === undefined ? {} : { onSave: save }),
      });
  stopSignals.watch(machine);
  if (options.save !== undefined) process.on('SIGUSR1', save);
  try {
    // A signal may have come while the machine was made.
    if (stopSignals.exitCode === undefined) await machine.start();
    if (inBackground) reportReady();
    const end = await machine.wait();
    detach();
    const forced = stopSignals.exitCode;
    if (stopSignals.timedOut)
      process.stderr.write(`tsvm: the machine was ended after ${options.timeout}, as --timeout asks\n`);
    else explainEnd(end);
    if (options.timeline !== undefined) writeTimeline(options.timeline, machine);
    if (forced !== undefined) exitWithoutReader(forced);
    return { end, exitCode: forced ?? exitCodeOf(end), forced: forced !== undefined };
  } finally {
    stopProgress();
    stopSignals.watch(undefined);
    process.removeListener('SIGUSR1', save);
    detach();
  }
}

/** Exits although a reader of stdout has stopped reading: Node would wait for it for ever. */
function exitWithoutReader(exitCode: number): void {
  if (process.stdout.writableLength > 0) setTimeout(() => process.exit(exitCode), DRAIN_MS).unref();
}
