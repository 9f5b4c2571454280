/** Options of a command that is run, in a machine or in a container: its environment and its streams. */
import type { Command } from 'commander';
import { collect } from './device-options.js';

/** Adds the options of a command's environment. */
export function addEnvOptions(command: Command): Command {
  return command
    .option('-e, --env <name[=value]>', 'an environment variable; without a value, this process’s', collect)
    .option(
      '--env-file <file>',
      'variables in lines of NAME=VALUE; repeatable, and --env comes after them',
      collect,
    );
}

/** Adds the options of a command's streams, with Docker's word for what is so in any case. */
export function addStreamOptions(command: Command): Command {
  return command
    .option('-i, --interactive', 'nothing: standard input is the command’s in any case')
    .option('-t, --tty', 'give the command a terminal (default: on a terminal)')
    .option('--no-tty', 'give the command pipes also on a terminal');
}
