/** `tsvm snapshot`: boots a machine, waits until it has come far enough, and saves it. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { TsvmError } from '../../errors.js';
import { lookAtSaveFolder } from '../../machine/check.js';
import { createMachine } from '../../machine/create.js';
import { formatBytes } from '../../util/units.js';
import { showBootProgress } from '../boot-progress.js';
import { addMachineOptions, askedMachine, completeMachine, type MachineOptions } from '../machine-options.js';
import { runningMachine } from '../running.js';
import { saveWithProgress } from '../save-progress.js';
import { parseDuration } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm snapshot here                                  the default guest, as its shell begins
  tsvm snapshot here --when 'listening' -- ./server   when the console shows it
  tsvm snapshot here --machine web                    one that runs (tsvm ps)
  tsvm restore here

Exit status: 0 when the machine was saved, 1 when it ended before.`;

/** Length of the console's end that the pattern is looked for in. */
const MAX_TAIL_CHARACTERS = 64 * 1024;

interface SnapshotCliOptions extends MachineOptions {
  when?: string;
  timeout?: string;
  machine?: string;
  differential?: boolean;
}

export function snapshotCommand(): Command {
  const command = new Command('snapshot')
    .summary('boot a machine and save it, or save one that runs')
    .description('Boot a machine, wait until it has come far enough, save it in a folder and end it.')
    .argument('<dir>', 'where to save it: a new folder, or one that holds a snapshot')
    .argument('[command...]', 'run by the guest’s init instead of a shell (after --)')
    .option(
      '--when <pattern>',
      'a regular expression that the console must show (default: the command starts)',
    )
    .option('--machine <name>', 'save one that runs, instead of booting one; it goes on')
    .option(
      '--differential',
      'with --machine: only what changed since the snapshot that it was restored from',
    )
    .option('--timeout <duration>', `give up after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`);
  return addMachineOptions(command)
    .addHelpText('after', EXAMPLES)
    .action(async (directory: string, argv: string[], options: SnapshotCliOptions) => {
      process.exitCode = await snapshot(directory, argv, options);
    });
}

async function snapshot(
  directory: string,
  argv: readonly string[],
  options: SnapshotCliOptions,
): Promise<number> {
  if (options.machine !== undefined) return await saveRunning(options.machine, directory, options);
  if (options.differential === true) {
    throw new TsvmError('TSVM_USAGE', '--differential: a machine that boots was restored from nothing', {
      hint: 'give --machine NAME, or leave it out',
    });
  }
  const pattern = options.when === undefined ? undefined : parsePattern(options.when);
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
  const asked = askedMachine(argv, options);
  await lookAtSaveFolder(directory);
  const config = await completeMachine(asked);
  await using machine = await createMachine(config);
  const stopProgress = showBootProgress(machine);
  let tail = '';
  let timedOut = false;
  const reached = new Promise<boolean>((resolve) => {
    machine.on('console', (bytes) => {
      process.stdout.write(bytes);
      tail = (tail + Buffer.from(bytes).toString('latin1')).slice(-MAX_TAIL_CHARACTERS);
      if (pattern?.test(tail) === true) resolve(true);
    });
    machine.on('mark', ({ name }) => {
      if (pattern === undefined && name === 'command') resolve(true);
    });
    machine.on('end', () => resolve(false));
  });
  const stop = (): void => void machine.stop();
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          stop();
        }, timeoutMs);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  try {
    await machine.start();
    if (await reached)
      return (await saveWithProgress(machine, directory, false)) ? EXIT_CODES.ok : EXIT_CODES.usage;
    process.stderr.write(`tsvm: the machine ended before it could be saved\n`);
    return timedOut ? EXIT_CODES.timeout : 1;
  } finally {
    clearTimeout(timer);
    stopProgress();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, stop);
  }
}

function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    throw new TsvmError('TSVM_USAGE', `--when ${text}: not a regular expression`, {
      hint: "for example: --when 'login:'",
    });
  }
}

async function saveRunning(
  name: string,
  directory: string,
  { differential = false }: SnapshotCliOptions,
): Promise<number> {
  // Its process may stand elsewhere.
  const { memoryBytes } = await runningMachine(name).machine.snapshot(resolve(directory), differential);
  process.stderr.write(`tsvm: saved in ${directory} (${formatBytes(memoryBytes)})\n`);
  return EXIT_CODES.ok;
}
