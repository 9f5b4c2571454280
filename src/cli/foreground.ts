/** A machine that has this process's terminal until it ends. */
import type { Machine, MachineEnd } from '../machine/machine.js';
import { showBootProgress } from './boot-progress.js';
import { attachConsole } from './console.js';
import { EXIT_CODES, exitCodeOf } from './exit-codes.js';
import { explainEnd, writeTimeline } from './machine-end.js';
import { saveWithProgress } from './save-progress.js';

export interface ForegroundOptions {
  readonly usesOurInit: boolean;
  /** Of `performance.now()`. */
  readonly deadline: number | undefined;
  /** As given, for the message. */
  readonly timeout?: string | undefined;
  readonly timeline?: string | undefined;
  /** Where Ctrl-A s and SIGUSR1 save to. */
  readonly save?: string | undefined;
  readonly differential?: boolean | undefined;
}

/** Starts `machine` and stays with it. */
export async function runInForeground(
  machine: Machine,
  options: ForegroundOptions,
): Promise<{ end: MachineEnd; exitCode: number }> {
  const { usesOurInit, deadline } = options;
  // What is typed before the guest's init has set up its console would be lost or echoed.
  const stopProgress = showBootProgress(machine);
  const save = (): void => {
    if (options.save !== undefined)
      void saveWithProgress(machine, options.save, options.differential === true);
  };
  const detach = attachConsole(machine, {
    waitForCommand: usesOurInit,
    ...(options.save === undefined ? {} : { onSave: save }),
  });
  let forced: number | undefined;
  const stopWith = (exitCode: number): void => {
    forced ??= exitCode;
    void machine.stop();
  };
  const onSignal = (signal: NodeJS.Signals): void =>
    stopWith(signal === 'SIGINT' ? EXIT_CODES.interrupted : EXIT_CODES.terminated);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  if (options.save !== undefined) process.on('SIGUSR1', save);
  const timer =
    deadline === undefined
      ? undefined
      : setTimeout(() => stopWith(EXIT_CODES.timeout), Math.max(1, deadline - performance.now()));
  try {
    await machine.start();
    const end = await machine.wait();
    detach();
    if (forced === EXIT_CODES.timeout)
      process.stderr.write(`tsvm: the machine was ended after ${options.timeout}, as --timeout asks\n`);
    else explainEnd(end);
    if (options.timeline !== undefined) await writeTimeline(options.timeline, machine);
    return { end, exitCode: forced ?? exitCodeOf(end) };
  } finally {
    clearTimeout(timer);
    stopProgress();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, onSignal);
    process.removeListener('SIGUSR1', save);
    detach();
  }
}
