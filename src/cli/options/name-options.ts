/** The options by which a machine gets a name, runs in the background, and is forgotten. */
import type { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import { collect, once } from './device-options.js';

export interface NameOptions {
  name?: string;
  detach?: boolean;
  rm?: boolean;
  label?: string[];
}

export function addNameOptions(command: Command): Command {
  return command
    .option('--name <name>', 'by which ps, attach, stop and the others find it', once('--name'))
    .option('-d, --detach', 'run it in the background, and print its name')
    .option('-l, --label <name[=value]>', 'by which ps finds it; repeatable', collect)
    .option('--rm', 'forget it when it has ended (else: tsvm rm)');
}

/** Labels as they were typed; one without a value has an empty one. @throws TsvmError `TSVM_USAGE` */
export function labelsOf({
  label = [],
}: Pick<NameOptions, 'label'>): Readonly<Record<string, string>> | undefined {
  if (label.length === 0) return undefined;
  return Object.fromEntries(
    label.map((text) => {
      const [, name, value = ''] = /^([^=]+)(?:=(.*))?$/s.exec(text) ?? [];
      if (name !== undefined) return [name, value];
      throw new TsvmError('TSVM_USAGE', `--label: '${text}' has no name`, { hint: '--label NAME=VALUE' });
    }),
  );
}
