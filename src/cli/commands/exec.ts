/** `tsvm exec`: a further command in a machine or container that runs. */
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { Command } from 'commander';
import type { AgentProcess } from '../../agent/process.js';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { TsvmError } from '../../errors.js';
import { rawTerminal } from '../../host/tty.js';
import { userInSandbox } from '../../sandbox/accounts.js';
import { complain } from '../complain.js';
import { environment, parseVariables } from '../environment.js';
import { inFlags } from '../flags.js';
import { addEnvOptions } from '../options/command-options.js';
import { withEnvFiles } from '../options/env-file.js';
import { refuseEmptyCommand } from '../options/machine-options.js';
import { agentOfNamed } from '../session/named-agent.js';

const EXAMPLES = `
Examples:
  tsvm run -d --name box -- sleep infinity
  tsvm exec box uname -a                  its output and exit status are this command's
  tsvm exec -it box sh                    a shell on this terminal
  tsvm exec -i box sh < script.sh         standard input is read only with -i
  tsvm exec -u nobody -w /tmp -e A=1 box env
  tsvm exec -d box ./job                  goes on by itself

Exit status: the command's own (127 not found, 126 not executable, 128 + N after signal N); 2 bad usage, no such machine.
Signals that this process gets go to the command.`;

/** Status of a command that is there and cannot be executed, and of one that is not there, as shells have them. */
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;
const { SIGPIPE } = constants.signals;
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

interface ExecOptions {
  interactive?: boolean;
  tty?: boolean;
  detach?: boolean;
  env?: string[];
  envFile?: string[];
  workdir?: string;
  user?: string;
}

export function execCommand(): Command {
  const command = new Command('exec')
    .summary('run a further command in a machine or container that runs')
    .description('Run a further command in a machine or container that runs and has a name.')
    .argument('<name>', 'of the machine or container')
    .argument('<command...>', 'the command and its arguments')
    .passThroughOptions()
    .option('-i, --interactive', 'give the command this process’s standard input')
    .option('-t, --tty', 'give the command a terminal')
    .option('-d, --detach', 'leave the command to itself: print nothing and do not wait')
    .option('-w, --workdir <dir>', 'working directory')
    .option('-u, --user <user>', 'UID, UID:GID, NAME or NAME:GROUP of the machine or container');
  return addEnvOptions(command)
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, argv: string[], options: ExecOptions) => {
      process.exitCode = await exec(name, argv, options);
    });
}

async function exec(name: string, argv: readonly string[], typed: ExecOptions): Promise<number> {
  refuseEmptyCommand(argv);
  const { stdin, stdout } = process;
  const { interactive = false, tty = false, detach = false, workdir, user } = typed;
  if (tty && interactive && stdin.isTTY !== true) {
    throw new TsvmError('TSVM_USAGE', '-t: standard input is not a terminal', { hint: 'leave out -t' });
  }
  const options = await withEnvFiles(typed);
  const variables = environment(parseVariables(options.env ?? []));
  await using agent = agentOfNamed(name);
  const found =
    user === undefined
      ? undefined
      : await userInSandbox(name, async (path, length) => await agent.files.read(path, { length }), user, {});
  const { home, ...ids } = found ?? { home: undefined };
  try {
    const child = await agent.spawn({
      argv,
      env: {
        ...(home !== undefined && { HOME: home }),
        ...(tty && { TERM: process.env['TERM'] ?? 'xterm' }),
        ...variables,
      },
      ...(workdir !== undefined && { cwd: workdir }),
      ...('uid' in ids && { user: ids }),
      ...(tty && { tty, rows: stdout.rows ?? 24, columns: stdout.columns ?? 80 }),
      hasInput: interactive && !detach,
      detached: detach,
    });
    if (detach) return EXIT_CODES.ok;
    return await stayWith(child, { interactive, tty });
  } catch (error) {
    const status = error instanceof TsvmError ? COMMAND_STATUS[error.code] : undefined;
    if (status === undefined) throw error;
    const { message, hint } = inFlags(error as TsvmError);
    complain(`tsvm: ${message}`);
    if (hint !== undefined) complain(`hint: ${hint}`);
    return status;
  }
}

const COMMAND_STATUS: Readonly<Record<string, number | undefined>> = {
  TSVM_COMMAND: NOT_EXECUTABLE,
  TSVM_COMMAND_NOT_FOUND: NOT_FOUND,
};

/** Joins a command with this process's streams, terminal and signals until it has ended: its exit status. */
async function stayWith(
  child: AgentProcess,
  { interactive, tty }: { readonly interactive: boolean; readonly tty: boolean },
): Promise<number> {
  const { stdin, stdout, stderr } = process;
  const restore = tty && interactive ? rawTerminal(stdin) : () => {};
  const resize = (): void => child.resize(stdout.rows, stdout.columns);
  const forwards = FORWARDED.map((name) => {
    const forward = (): void => child.signal(constants.signals[name]);
    process.on(name, forward);
    return () => process.removeListener(name, forward);
  });
  if (tty && stdout.isTTY) stdout.on('resize', resize);
  if (interactive) stdin.pipe(child.stdin);
  child.stdin.on('error', () => {}); // the command reads no more
  try {
    const shown = [showOn(stdout, child.stdout, child), showOn(stderr, child.stderr, child)];
    const { exitCode, outOfMemory } = await child.exited;
    await Promise.all(shown);
    if (outOfMemory) complain('tsvm: the kernel ended the command: memory ran out');
    return exitCode;
  } finally {
    restore();
    stdout.removeListener('resize', resize);
    for (const stop of forwards) stop();
    stdin.unpipe(child.stdin);
    stdin.destroy(); // a pipe that nobody reads would keep this process
  }
}

/** Shows an output of the command, at the reader's pace. A reader that has gone is a broken pipe to the command. */
async function showOn(target: Writable, output: Readable, child: AgentProcess): Promise<void> {
  const gone = (): void => {
    child.signal(SIGPIPE);
    output.unpipe(target);
    output.resume();
  };
  target.once('error', gone);
  output.pipe(target, { end: false });
  await new Promise<void>((resolve) => output.once('close', resolve));
  target.removeListener('error', gone);
}
