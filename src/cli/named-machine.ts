/** The options by which a machine gets a name, and what follows from it: it is found by other commands, and may run apart. */
import type { Command } from 'commander';
import { checkName, MachineStore, nameTaken, newName } from '../control/machine-store.js';
import type { PublishedMachine } from '../control/publish.js';
import { TsvmError } from '../errors.js';
import type { Machine } from '../machine/machine.js';
import { backgroundName, startInBackground } from './background.js';
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

/** Starts another process that runs the machine, if it is to be in the background: exit status of this one, else undefined. */
export async function detached({ name, detach, rm }: NameOptions): Promise<number | undefined> {
  if (name !== undefined) checkName(name);
  if (rm === true && name === undefined && detach !== true) {
    throw new TsvmError('TSVM_USAGE', '--rm: a machine without a name leaves nothing', {
      hint: 'give --name',
    });
  }
  if (detach !== true || backgroundName() !== undefined) return undefined;
  if (name !== undefined) refuseTaken(name);
  return await startInBackground(name ?? newName());
}

/** Makes a machine known, if it has a name, before its guest does anything: the name may be taken. */
export async function publishNamed(
  machine: Machine,
  command: readonly string[],
  options: NameOptions,
): Promise<PublishedMachine | undefined> {
  const name = backgroundName() ?? options.name;
  if (name === undefined) return undefined;
  const { PublishedMachine } = await import('../control/publish.js');
  return await PublishedMachine.publish(new MachineStore(), name, machine, {
    command,
    removeAtEnd: options.rm === true,
  });
}

/** Refuses a name that is taken, before anything is begun; who comes first is decided when the folder is made. */
function refuseTaken(name: string): void {
  const found = new MachineStore().list().find(({ record }) => record.name === name);
  if (found !== undefined && found.record.end === undefined) throw nameTaken(name);
}
