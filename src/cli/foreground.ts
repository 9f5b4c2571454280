/** A machine that this process stays with until it ends: on its terminal, or in the background. */

import { logCommand } from '../control/command-log.js';
import { EXIT_CODES, exitCodeOf } from '../control/exit-codes.js';
import { commandEnd, endOf, instanceEnd } from '../control/instance-end.js';
import { TsvmError } from '../errors.js';
import type { GuestChannel } from '../machine/channel.js';
import type { Machine, MachineEnd } from '../machine/machine.js';
import { backgroundName, sayReady } from './background.js';
import { showBootProgress } from './boot-progress.js';
import { attachConsole } from './console.js';
import type { EndSignals } from './end-signals.js';
import { explainEnd, writeTimeline } from './machine-end.js';
import { type NameOptions, publishNamed } from './named-machine.js';
import { connectStreams } from './run-streams.js';
import { saveWithProgress } from './save-progress.js';
import type { Stopper } from './stopper.js';

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

const SIGUSR1 = 10;

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
    if (forced === EXIT_CODES.timeout) explainTimeout(options.timeout);
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

export interface CommandOptions extends NameOptions, Pick<ForegroundOptions, 'timeout' | 'timeline'> {
  /** Words of the command, as other commands show them. */
  readonly argv: readonly string[];
  /** The command has the machine's console, and not the channel's streams. */
  readonly tty: boolean;
  readonly stopper: Stopper;
  /** Sends the command, once all is connected; absent for a copy, whose command runs. */
  send?(channel: GuestChannel): void;
  /** Called at Ctrl-A s on the command's terminal, and at SIGUSR1, which does not reach the command then. */
  readonly onSave?: (() => void) | undefined;
}

/** Stays with a machine that is for a command until that has ended. Its streams or terminal are this process's; so is the exit status, which is returned. */
export async function serveCommand(machine: Machine, options: CommandOptions): Promise<number> {
  const { tty, stopper, onSave } = options;
  const { channel } = machine;
  if (channel === undefined) throw new TsvmError('TSVM_STATE', 'the machine has no channel');
  const published = await publishNamed(machine, options.argv, options);
  const apart = published !== undefined && backgroundName() !== undefined;
  const detach =
    tty && !apart
      ? attachConsole(machine, { waitForCommand: !channel.hasCommand, ...(onSave && { onSave }) })
      : () => {};
  const drained = tty ? undefined : apart ? logCommand(channel, published.instance) : connectStreams(channel);
  try {
    options.send?.(channel);
    if (machine.state === 'ready') await machine.start();
    if (apart) sayReady();
    stopper.forwardTo((signal) => {
      if (signal === SIGUSR1 && onSave !== undefined) onSave();
      else channel.signal(signal);
    });
    const { end, status } = await endOf(machine, drained);
    detach();
    if (stopper.exitCode === EXIT_CODES.timeout) explainTimeout(options.timeout);
    else if (status === undefined) explainEnd(end);
    if (options.timeline !== undefined) writeTimeline(options.timeline, machine);
    const exitCode = stopper.exitCode ?? status ?? exitCodeOf(end);
    await published?.finish(status === undefined ? instanceEnd(end, exitCode) : commandEnd(exitCode));
    return exitCode;
  } finally {
    detach();
    // A pipe that nobody reads would keep this process.
    if (!tty) process.stdin.destroy();
  }
}

/** @param timeout - as it was typed */
export function explainTimeout(timeout: string | undefined): void {
  process.stderr.write(`tsvm: the machine was ended after ${timeout}, as --timeout asks\n`);
}
