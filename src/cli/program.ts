/** The command line of `tsvm`. One file per subcommand, in commands/. */
import { Command, CommanderError, Option } from 'commander';
import { EXIT_CODES } from '../control/exit-codes.js';
import { TsvmError } from '../errors.js';
import { VERSION } from '../util/version.js';
import { renameCommand, restartCommand, startCommand } from './commands/again.js';
import { apiCommand } from './commands/api.js';
import { attachCommand } from './commands/attach.js';
import { bootCommand } from './commands/boot.js';
import { compareCommand } from './commands/compare.js';
import { completeCommand } from './commands/complete.js';
import { completionCommand } from './commands/completion.js';
import { containerCommand } from './commands/container.js';
import { cpCommand } from './commands/cp.js';
import { doctorCommand } from './commands/doctor.js';
import { execCommand } from './commands/exec.js';
import { guestCommand } from './commands/guest.js';
import { loadCommand, saveCommand } from './commands/image-archives.js';
import { imagesCommand, rmiCommand, tagCommand } from './commands/images.js';
import { logsCommand } from './commands/logs.js';
import { forwardCommand, portCommand } from './commands/ports.js';
import { psCommand } from './commands/ps.js';
import { pullCommand } from './commands/pull.js';
import { restoreCommand } from './commands/restore.js';
import { runCommand } from './commands/run.js';
import { makeCommand, serveCommand } from './commands/serve.js';
import { snapshotCommand } from './commands/snapshot.js';
import { statsCommand } from './commands/stats.js';
import {
  forkCommand,
  inspectCommand,
  killCommand,
  pauseCommand,
  resumeCommand,
  rmCommand,
  stopCommand,
  waitCommand,
} from './commands/steer.js';
import { systemCommand } from './commands/system.js';
import { templateCommand } from './commands/template.js';
import { topCommand } from './commands/top.js';
import { complain } from './complain.js';
import { inFlags } from './flags.js';
import { insteadOfCommand, insteadOfOption } from './options/docker-words.js';

/** Commands by their groups, in the order of `tsvm --help`. */
const COMMANDS: readonly (readonly [group: string, commands: readonly (() => Command)[]])[] = [
  ['Make machines:', [bootCommand, runCommand, snapshotCommand, restoreCommand, apiCommand]],
  [
    'Machines with a name (--name):',
    [
      ...[execCommand, cpCommand, portCommand, forwardCommand],
      ...[topCommand, psCommand, attachCommand, logsCommand, statsCommand, inspectCommand, pauseCommand],
      ...[
        resumeCommand,
        stopCommand,
        startCommand,
        restartCommand,
        killCommand,
        renameCommand,
        waitCommand,
        forkCommand,
        rmCommand,
      ],
    ],
  ],
  ['Many in one process:', [serveCommand, makeCommand]],
  ['Containers, and both:', [containerCommand, compareCommand]],
  ['Images:', [pullCommand, imagesCommand, tagCommand, rmiCommand, saveCommand, loadCommand]],
  ['This host:', [doctorCommand, systemCommand, guestCommand, templateCommand, completionCommand]],
];

const EXAMPLES = `
Examples:
  tsvm boot                          boot the default guest to a shell (Ctrl-A x ends it)
  tsvm run uname -a                  run one command in a machine of its own, restored from a template
  tsvm boot --name web -d            a machine in the background; tsvm top watches it
  tsvm boot --kernel bzImage --disk root.img --append root=/dev/vda
  tsvm doctor                        what this host can do`;

/** The whole command line as commander knows it. */
function createProgram(): Command {
  const program = new Command('tsvm')
    .description('A lightweight virtual machine monitor over KVM, with its devices in TypeScript')
    .version(VERSION, '-V, --version', 'print the version')
    .option('--debug', 'print the stack of an error')
    .showSuggestionAfterError()
    .enablePositionalOptions()
    .addHelpText('after', EXAMPLES)
    .configureOutput({ outputError: () => {} });
  for (const [group, commands] of COMMANDS) {
    for (const create of commands) program.addCommand(create().helpGroup(group));
  }
  program.addCommand(completeCommand(), { hidden: true });
  for (const command of withSubcommands(program)) {
    if (command !== program) command.addOption(new Option('--debug').hideHelp());
    command
      .exitOverride((error) => {
        throw usageError(error, command);
      })
      .configureOutput({ outputError: () => {} });
  }
  return program;
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

/** Error of a command line that commander refuses, with what to do about it. Help and version, which end the command too, stay. */
function usageError(error: CommanderError, command: Command): Error {
  if (error.exitCode === 0 || error.code === 'commander.help') return error;
  const message = error.message.replace(/^error: /, '').replaceAll('\n', ' ');
  const [, word = ''] = /'(.*?)'/.exec(message) ?? [];
  const refused = (text: string, hint: string): TsvmError => new TsvmError('TSVM_USAGE', text, { hint });
  const path = pathOf(command);
  switch (error.code) {
    case 'commander.unknownCommand': {
      const instead = command.parent === null ? insteadOfCommand(word) : undefined;
      if (instead !== undefined) return refused(`unknown command '${word}'`, instead);
      return refused(message, `${path} --help lists the commands`);
    }
    case 'commander.unknownOption': {
      const runs = command.registeredArguments.some((argument) => argument.name() === 'command');
      // The operands that were read stand before it.
      if (runs && command.args.indexOf(word) >= command.registeredArguments.length)
        return refused(message, 'an option of the command that is to be run comes after --');
      const instead = runs ? insteadOfOption(word) : undefined;
      if (instead !== undefined) return refused(`unknown option '${word}'`, instead);
      return refused(
        message,
        `${path} --help lists ${command.parent === null ? 'the commands' : 'its options'}`,
      );
    }
    default:
      return refused(message, `${path} ${command.usage()} (${path} --help says more)`);
  }
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** Prints an error as people want to read it, and says what to exit with. */
function report(error: unknown, debug: boolean): number {
  // --help and --version, or help that was printed for want of a command.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_CODES.ok : EXIT_CODES.usage;
  if (error instanceof TsvmError) {
    const { message, hint } = inFlags(error);
    complain(`tsvm: ${message}`);
    if (hint !== undefined) complain(`hint: ${hint}`);
    if (debug) {
      complain(`${error.stack}`);
      if (error.cause instanceof Error) complain(`cause: ${error.cause.stack}`);
    }
    return HOST_ERRORS.has(error.code) ? EXIT_CODES.hostFailure : EXIT_CODES.usage;
  }
  complain(
    `tsvm: internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
  return EXIT_CODES.hostFailure;
}

/** Errors that no other input would have avoided. */
const HOST_ERRORS: ReadonlySet<string> = new Set([
  'TSVM_KVM_UNAVAILABLE',
  'TSVM_KVM',
  'TSVM_ADDON',
  'TSVM_HOST',
]);

/** Runs a whole command line, as `process.argv` has it, and prints its error. Resolves with the status of the error, if there was one. */
export async function runProgram(argv: readonly string[]): Promise<number | undefined> {
  const program = createProgram();
  try {
    await program.parseAsync(argv);
    return undefined;
  } catch (error) {
    const debug = withSubcommands(program).some(
      (command) => command.opts<{ debug?: boolean }>().debug === true,
    );
    return report(error, debug);
  }
}
