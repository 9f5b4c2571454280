/** A machine that has a name: other commands find it, and it may run in the background. */
import { checkName, MachineStore, nameTaken, newName } from '../../control/machine-store.js';
import type { PublishedMachine } from '../../control/publish.js';
import { TsvmError } from '../../errors.js';
import type { Machine } from '../../machine/machine.js';
import { backgroundName, commandLine, startInBackground } from '../background.js';
import { labelsOf, type NameOptions } from '../options/name-options.js';

/** Starts another process that runs the machine, if it is to be in the background: exit status of this one, else undefined. */
export async function startDetached(options: NameOptions): Promise<number | undefined> {
  const { name, detach, rm } = options;
  if (name !== undefined) checkName(name);
  if (rm === true && name === undefined && detach !== true) {
    throw new TsvmError('TSVM_USAGE', '--rm: a machine without a name leaves nothing', {
      hint: 'give --name',
    });
  }
  if (labelsOf(options) !== undefined && name === undefined && detach !== true) {
    throw new TsvmError('TSVM_USAGE', '--label: a machine without a name is not listed', {
      hint: 'give --name',
    });
  }
  if (detach !== true || backgroundName() !== undefined) return undefined;
  if (name !== undefined) refuseTaken(name);
  return await startInBackground(name ?? newName());
}

/** Name of this process's machine, if it has one: its guest's host name too, unless that is given one. */
export function machineName({ name }: NameOptions): string | undefined {
  return backgroundName() ?? name;
}

/** Makes a machine known, if it has a name, before its guest does anything: the name may be taken. */
export async function publishNamed(
  machine: Machine,
  command: readonly string[],
  options: NameOptions,
): Promise<PublishedMachine | undefined> {
  const name = machineName(options);
  if (name === undefined) return undefined;
  const { PublishedMachine } = await import('../../control/publish.js');
  return await PublishedMachine.publish(new MachineStore(), name, machine, {
    command,
    start: commandLine(),
    ...withLabels(options),
    removeAtEnd: options.rm === true,
  });
}

/** Labels for a record. */
export function withLabels(options: Pick<NameOptions, 'label'>): {
  readonly labels?: Readonly<Record<string, string>>;
} {
  const labels = labelsOf(options);
  return labels === undefined ? {} : { labels };
}

/** Refuses a name that is taken, before anything is begun; who comes first is decided when the folder is made. */
function refuseTaken(name: string): void {
  const found = new MachineStore().list().find(({ record }) => record.name === name);
  if (found !== undefined && found.record.end === undefined) throw nameTaken(name);
}
