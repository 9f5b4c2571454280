/** The options by which a machine gets a name, runs in the background, and is forgotten. */
import type { Command } from 'commander';
import { once } from './device-options.js';

export interface NameOptions {
  name?: string;
  detach?: boolean;
  rm?: boolean;
}

export function addNameOptions(command: Command): Command {
  return command
    .option('--name <name>', 'by which ps, attach, stop and the others find it', once('--name'))
    .option('-d, --detach', 'run it in the background, and print its name')
    .option('--rm', 'forget it when it has ended (else: tsvm rm)');
}
