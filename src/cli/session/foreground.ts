/** A machine that this process stays with until it ends: on its terminal, or in the background. */

import { exitCodeOf } from '../../control/exit-codes.js';
import { commandEnd, instanceEnd } from '../../control/instance-end.js';
import { logCommand } from '../../control/logs/command-log.js';
import type { GuestCommand } from '../../guest/command.js';
import type { GuestFacts } from '../../guest/facts.js';
import { beginCommand } from '../../guest/life.js';
import type { Machine, MachineEnd } from '../../machine/machine.js';
import { backgroundName, reportReady } from '../background.js';
import type { NameOptions } from '../options/name-options.js';
import { showBootProgress } from './boot-progress.js';
import { attachConsole } from './console.js';
import { explainEnd, writeTimeline } from './machine-end.js';
import { publishNamed } from './named-machine.js';
import { connectStreams, exitWithoutReader, outputTaken } from './run-streams.js';
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

const SIGUSR1 = 10;

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
  stopSignals.switchToMachine();
  try {
    // A signal may have come while the machine was made.
    if (stopSignals.exitCode === undefined) await machine.start();
    if (inBackground) reportReady();
    const end = await machine.wait();
    detach();
    await outputTaken(stopSignals.signal);
    const forced = stopSignals.exitCode;
    if (stopSignals.timedOut) explainTimeout(options.timeout);
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

export interface CommandOptions extends NameOptions, Pick<ForegroundOptions, 'timeout' | 'timeline'> {
  /** Words of the command, as other commands show them. */
  readonly argv: readonly string[];
  /** The command has the machine's console, and not the channel's streams. */
  readonly tty: boolean;
  readonly stopSignals: StopSignals;
  /** Command for a machine that waits for one; absent for a copy, whose command runs. */
  readonly command?: GuestCommand | undefined;
  readonly facts?: GuestFacts | undefined;
  /** Tells that what the command wrote to a disk is kept. */
  readonly writesBack?: boolean | undefined;
  /** Called at Ctrl-A s on the command's terminal, and at SIGUSR1, which does not reach the command then. */
  readonly onSave?: (() => void) | undefined;
}

/** Stays with a machine that is for a command until that has ended. Its streams or terminal are this process's; so is the exit status, which is returned. */
export async function serveCommand(machine: Machine, options: CommandOptions): Promise<number> {
  const { tty, stopSignals, command, facts, writesBack, onSave } = options;
  await using published = await publishNamed(machine, options.argv, options);
  const inBackground = published !== undefined && backgroundName() !== undefined;
  const detach =
    tty && !inBackground
      ? attachConsole(machine, { waitForCommand: command !== undefined, ...(onSave && { onSave }) })
      : () => {};
  try {
    // A signal or the time limit may have ended it meanwhile.
    const isEnded = stopSignals.exitCode !== undefined;
    const life = beginCommand(machine, {
      command: isEnded ? undefined : command,
      facts,
      writesBack,
      connect(channel) {
        if (tty) return async () => {};
        return inBackground
          ? logCommand(channel, published.instance)
          : connectStreams(channel, stopSignals.signal);
      },
    });
    if (!isEnded && machine.state === 'ready') await machine.start();
    if (inBackground) reportReady();
    stopSignals.forwardTo((signal) => {
      if (signal === SIGUSR1 && onSave !== undefined) onSave();
      else life.channel.signal(signal);
    });
    void life.channel.exited.then(() => stopSignals.commandEnded());
    const { end, status } = await life.end();
    detach();
    await outputTaken(stopSignals.signal);
    if (stopSignals.timedOut) explainTimeout(options.timeout);
    else if (status === undefined) explainEnd(end);
    if (options.timeline !== undefined) writeTimeline(options.timeline, machine);
    const exitCode = stopSignals.exitCode ?? status ?? exitCodeOf(end);
    await published?.finish(status === undefined ? instanceEnd(end, exitCode) : commandEnd(exitCode));
    if (stopSignals.exitCode !== undefined) exitWithoutReader(exitCode);
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
