/** A container in the foreground: its streams and signals are this process's, its end this process's status. */
import type { ContainerConfig, Engine } from '../../container/config.js';
import type { Container, ContainerEnd } from '../../container/container.js';
import { SIGKILL, SIGNAL_BASE, SIGSYS, SIGWINCH } from '../../container/linux.js';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { rawTerminal } from '../../host/tty.js';
import { formatBytes } from '../../util/units.js';
import { backgroundName } from '../background.js';
import { complain } from '../complain.js';
import { runNamedContainer } from './named-container.js';
import { withLabels } from './named-machine.js';
import { StopSignals } from './stop-signals.js';

export interface ForegroundOptions {
  readonly timeoutMs: number | undefined;
  /** Time limit as typed, for the message. */
  readonly timeout?: string | undefined;
  /** Say at the end what it used. */
  readonly stats?: boolean | undefined;
  readonly engine?: Engine | undefined;
  /** Name by which others find it, and whether what is left of it then goes with it. */
  readonly name?: string | undefined;
  readonly rm?: boolean | undefined;
  /** Labels as they were typed. */
  readonly label?: string[];
}

/** Runs it, and returns what to exit with. */
export async function runContainer(config: ContainerConfig, options: ForegroundOptions): Promise<number> {
  const tty = config.terminal !== undefined;
  using stopSignals = StopSignals.ofCommand(options.timeoutMs);
  // Most commands make no container, and do not wait for its code.
  const { startContainer } = await import('../../container/container.js');
  const restore = tty ? rawTerminal(process.stdin) : () => {};
  try {
    const host = options.engine === undefined ? {} : { engine: options.engine };
    const stay = async (container: Container): Promise<ContainerEnd> => {
      stopSignals.watch({ kill: () => container.signal(SIGKILL) });
      stopSignals.forwardTo((signal) => container.signal(signal));
      const onResize = (): void => container.signal(SIGWINCH);
      if (tty) process.on('SIGWINCH', onResize);
      const end = await container.wait();
      process.removeListener('SIGWINCH', onResize);
      restore();
      return end;
    };
    const explain = (end: ContainerEnd): number => explainEnd(end, config, options, stopSignals);
    const name = backgroundName() ?? options.name;
    if (name === undefined) return explain(await stay(await startContainer(config, host, 'inherit')));
    return await runNamedContainer(config, {
      name,
      ...withLabels(options),
      rm: options.rm === true,
      stay,
      explain,
    });
  } catch (error) {
    restore();
    const { ExecuteError } = await import('../../container/launcher.js');
    if (!(error instanceof ExecuteError)) throw error;
    complain(`tsvm: ${error.message}`);
    return error.exitCode;
  }
}

function explainEnd(
  { status, usage, outOfMemory, lostOutput }: ContainerEnd,
  config: ContainerConfig,
  options: ForegroundOptions,
  stopSignals: StopSignals,
): number {
  if (outOfMemory) {
    const limit = formatBytes(config.limits?.memoryBytes ?? 0);
    process.stderr.write(
      `tsvm: out of memory: the kernel ended a process, since all of them reached ${limit}\n`,
    );
  }
  if (lostOutput !== undefined) {
    process.stderr.write(`tsvm: the command’s output was cut: its file takes no more (${lostOutput})\n`);
  }
  if (options.stats === true) process.stderr.write(`${JSON.stringify(usage)}\n`);
  if (stopSignals.timedOut) {
    process.stderr.write(`tsvm: the container was ended after ${options.timeout}, as --timeout asks\n`);
  }
  const code = status.kind === 'exited' ? status.code : SIGNAL_BASE + status.signal;
  // A shell passes it on as its own.
  if (code === SIGNAL_BASE + SIGSYS && config.privileged !== true && options.engine === undefined) {
    process.stderr.write(
      'tsvm: ended by SIGSYS: 32-bit programs do not run in a container (docs/container.md); in a machine they do\n',
    );
  }
  // A command that could not know of it may say that all is well.
  return stopSignals.exitCode ?? (code === 0 && lostOutput !== undefined ? EXIT_CODES.hostFailure : code);
}
