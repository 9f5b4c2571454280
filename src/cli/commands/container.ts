/** `tsvm container`: the other kind of wall, on the host's own kernel. */
import { Command } from 'commander';
import type { ContainerEnd } from '../../container/container.js';
import { startContainer } from '../../container/container.js';
import { ExecuteError } from '../../container/launcher.js';
import { SIGKILL, SIGWINCH } from '../../container/linux.js';
import { packageFile } from '../../host/package-file.js';
import { rawTerminal } from '../../host/terminal.js';
import { addContainerOptions, type ContainerOptions, containerConfig } from '../container-options.js';
import { EXIT_CODES } from '../exit-codes.js';
import { Stopper } from '../stopper.js';
import { parseDuration } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm container run --rootfs ./debian -- cat /etc/os-release     what it changes is thrown away
  tsvm container run --rootfs ./debian -- bash                    a shell on this terminal
  tsvm container run --layer base --layer app --upper state --memory 256M --cpus 0.5 --pids 100 -- ./job
  tsvm container run --rootfs ./debian --net user --volume ./src:/src:ro -w /src -- make test
  tsvm container run --rootfs ./debian --cap-drop ALL --read-only --stats -- ./untrusted

Exit status: the command's own (127 not found, 126 not executable, 128 + N after signal N); 2 bad usage or input;
${EXIT_CODES.timeout} timeout; ${EXIT_CODES.hostFailure} what this host does not let it do.

SIGINT and SIGTERM go to the command; a second one ends the container. Its kernel is the host's: what that means, and how a
machine differs, is in docs/container.md.`;

interface RunOptions extends ContainerOptions {
  tty?: boolean;
  timeout?: string;
  stats?: boolean;
}

export function containerCommand(): Command {
  const container = new Command('container')
    .summary('run a command in a container: namespaces, cgroups, overlayfs')
    .description(
      'Containers share the host’s kernel. They are what machines are compared with, from the same files.',
    )
    .addHelpText('after', EXAMPLES);
  const run = container
    .command('run')
    .description('Run a command in a container of its own; nothing is left when it ends.')
    .argument('<command...>', 'the command and its arguments (after --)');
  addContainerOptions(run)
    .option('-t, --tty', 'give the command a terminal (default: on a terminal)')
    .option('--no-tty', 'give the command pipes also on a terminal')
    .option(
      '--timeout <duration>',
      `end the container after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`,
    )
    .option('--stats', 'say at the end, as a line of JSON on stderr, what it used')
    .addHelpText('after', EXAMPLES)
    .action(async (command: string[], options: RunOptions) => {
      process.exitCode = await runContainer(command, options);
    });
  return container;
}

async function runContainer(argv: readonly string[], options: RunOptions): Promise<number> {
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
  const tty = options.tty ?? (process.stdin.isTTY === true && process.stdout.isTTY === true);
  const size = { rows: process.stdout.rows ?? 24, columns: process.stdout.columns ?? 80 };
  const config = containerConfig(argv, options, tty ? size : undefined);
  if (options.privileged === true) process.stderr.write(PRIVILEGED);
  const stopper = new Stopper(timeoutMs);
  const restore = tty ? rawTerminal(process.stdin) : () => {};
  try {
    const host = { launcher: packageFile('kvm-addon/build/Release/container-launcher') };
    const container = await startContainer(config, host, 'inherit');
    stopper.watch({ stop: () => container.signal(SIGKILL) });
    stopper.forwardTo((signal) => container.signal(signal));
    const onResize = (): void => container.signal(SIGWINCH);
    if (tty) process.on('SIGWINCH', onResize);
    const end = await container.wait();
    process.removeListener('SIGWINCH', onResize);
    restore();
    return explainEnd(end, options, stopper);
  } catch (error) {
    restore();
    if (!(error instanceof ExecuteError)) throw error;
    process.stderr.write(`tsvm: ${error.message}\n`);
    return error.exitCode;
  } finally {
    stopper.close();
  }
}

function explainEnd(end: ContainerEnd, options: RunOptions, stopper: Stopper): number {
  if (end.outOfMemory) {
    process.stderr.write(
      `tsvm: out of memory: the kernel ended a process that reached --memory ${options.memory}\n`,
    );
  }
  if (options.stats === true) process.stderr.write(`${JSON.stringify(end.usage)}\n`);
  if (stopper.exitCode === EXIT_CODES.timeout) {
    process.stderr.write(`tsvm: the container was ended after ${options.timeout}, as --timeout asks\n`);
  }
  const { status } = end;
  return stopper.exitCode ?? (status.kind === 'exited' ? status.code : SIGNAL_BASE + status.signal);
}

/** What a shell adds to a signal's number. */
const SIGNAL_BASE = 128;

const PRIVILEGED =
  'tsvm: --privileged: no filter, every capability and all devices: the command can do to this host what you can\n';
