/** `tsvm container`: the other kind of wall, on the host's own kernel. */
import { Command } from 'commander';
import { ENGINES } from '../../container/config.js';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { TsvmError } from '../../errors.js';
import { addStreamOptions } from '../command-options.js';
import { addContainerOptions, type ContainerOptions, containerConfig } from '../container-options.js';
import { withEnvFiles } from '../env-file.js';
import { refuseEmptyCommand } from '../machine-options.js';
import { runContainer, terminalFor } from '../run-container.js';
import { parseChoice, parseDuration } from '../values.js';
import { sayWithoutKvm } from '../without-kvm.js';

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
  engine?: string;
}

export function containerCommand(): Command {
  const container = new Command('container')
    .summary('run a command in a container: namespaces, cgroups, overlayfs')
    .description(
      'Containers share the host’s kernel. They are what machines are compared with, from the same files.',
    )
    .enablePositionalOptions()
    .addHelpText('after', EXAMPLES);
  const subcommand = container
    .command('run')
    .description('Run a command in a container of its own; nothing is left when it ends.')
    .argument('<command...>', 'the command and its arguments')
    .passThroughOptions();
  addStreamOptions(addContainerOptions(subcommand))
    .option('--rm', 'nothing: nothing of a container is left in any case')
    .option(
      '--timeout <duration>',
      `end the container after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`,
    )
    .option('--engine <name>', `run it by another runtime: ${ENGINES.join(', ')}`)
    .option('--stats', 'say at the end, as a line of JSON on stderr, what it used')
    .addHelpText('after', EXAMPLES)
    .action(async (command: string[], options: RunOptions) => {
      process.exitCode = await run(command, options);
    });
  return container;
}

async function run(argv: readonly string[], options: RunOptions): Promise<number> {
  refuseEmptyCommand(argv);
  const terminal = terminalFor(options.tty);
  const asked = containerConfig(argv, options, terminal);
  const engine = options.engine === undefined ? undefined : parseChoice('--engine', options.engine, ENGINES);
  if (engine !== undefined && engine !== 'bwrap' && options.stats === true) {
    throw new TsvmError('TSVM_USAGE', `--stats: ${engine} keeps a cgroup of its own`, {
      hint: 'leave out --engine',
    });
  }
  const { timeout, stats } = options;
  const timeoutMs = timeout === undefined ? undefined : parseDuration('--timeout', timeout);
  const config =
    options.envFile === undefined ? asked : containerConfig(argv, await withEnvFiles(options), terminal);
  if (options.privileged === true) process.stderr.write(PRIVILEGED);
  sayWithoutKvm('with a KVM, tsvm run gives a command a kernel of its own');
  return await runContainer(config, { timeoutMs, timeout, stats, engine });
}

const PRIVILEGED =
  'tsvm: --privileged: no filter, every capability and all devices: the command can do to this host what you can\n';
