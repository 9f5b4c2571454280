/** `tsvm restore`: a saved machine goes on in the foreground. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { instanceEnd } from '../../control/instance-end.js';
import { TsvmError } from '../../errors.js';
import type { GuestChannel } from '../../guest/channel.js';
import { lookAtSaveFolder } from '../../machine/check.js';
import type { Machine } from '../../machine/machine.js';
import { restoreMachine } from '../../machine/restore.js';
import { shellQuote } from '../../util/shell-quote.js';
import { addBindingOptions, deviceBindings, sayBound, withCommandLine } from '../options/binding-options.js';
import type { DeviceOptions } from '../options/device-options.js';
import { addNameOptions, type NameOptions } from '../options/name-options.js';
import { serveCommand, stayWithMachine } from '../session/foreground.js';
import { lookAtTimeline } from '../session/machine-end.js';
import { machineName, publishNamed, startDetached } from '../session/named-machine.js';
import { saveWithProgress } from '../session/save-progress.js';
import { StopSignals } from '../session/stop-signals.js';
import { parseChoice, parseDuration } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm restore here                          go on where the machine in here/ stood; here/ stays as it is
  tsvm restore here --disk 0=root.img --share src=./src,ro --net 0=user
                                             what it may have of this host: a snapshot gets nothing because it asks for it
  tsvm restore here --disk 0=root.img --disks direct
                                             the guest writes to its disks themselves; here/ cannot be restored after that
  tsvm restore here --save next --differential
                                             Ctrl-A s saves what changed since; next/ needs here/

A command of tsvm run that ran when the machine was saved goes on with this process's streams or terminal, as it was run, and with its signals.
Exit status: as of tsvm run then, else as of tsvm boot.`;

interface RestoreCliOptions extends NameOptions, DeviceOptions {
  disks: string;
  timeout?: string;
  timeline?: string;
  save?: string;
  differential?: boolean;
}

export function restoreCommand(): Command {
  const command = new Command('restore')
    .summary('go on with a saved machine')
    .description(
      'Make the machine that was saved in a folder and give it this terminal. Of this host it has what lies in that folder and what is named here; without, tsvm says what it asks for, and by which options it would have it.',
    )
    .argument('<dir>', 'what `tsvm snapshot`, or Ctrl-A s, saved')
    .option('--disks <how>', 'overlay (what the guest writes is thrown away), or direct', 'overlay')
    .option('--timeout <duration>', `end the machine after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`)
    .option('--timeline <file>', 'write phases, exits and their cost as JSON')
    .option('--save <dir>', 'where Ctrl-A s, or SIGUSR1, saves the machine')
    .option('--differential', 'save only what changed since <dir>');
  return addNameOptions(addBindingOptions(command))
    .addHelpText('after', EXAMPLES)
    .action(async (directory: string, options: RestoreCliOptions) => {
      const timeoutMs =
        options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
      const disks = parseChoice('--disks', options.disks, ['overlay', 'direct']);
      const devices = deviceBindings(options);
      const status = await startDetached(options);
      if (status !== undefined) {
        process.exitCode = status;
        return;
      }
      lookAtTimeline(options.timeline);
      if (options.save !== undefined) await lookAtSaveFolder(options.save);
      using stopSignals = StopSignals.ofSavedMachine(timeoutMs);
      await using machine = await restoreMachine(directory, {
        disks,
        devices,
        onBind: sayBound,
        facts: { hostname: machineName(options) },
      }).catch(async (error) => {
        throw await withCommandLine(error, directory, { devices });
      });
      if (machine.channel !== undefined) {
        process.exitCode =
          stopSignals.exitCode ?? (await goOn(machine, machine.channel, stopSignals, directory, options));
        return;
      }
      await using published = await publishNamed(machine, [], options);
      const { end, exitCode } = await stayWithMachine(machine, stopSignals, {
        ...options,
        usesOurInit: false,
      });
      await published?.finish(instanceEnd(end, exitCode));
      process.exitCode = exitCode;
    });
}

/** Stays with a machine that is for a command. @returns what to exit with */
async function goOn(
  machine: Machine,
  channel: GuestChannel,
  stopSignals: StopSignals,
  directory: string,
  options: RestoreCliOptions,
): Promise<number> {
  if (!channel.hasCommand) {
    throw new TsvmError('TSVM_STATE', `the machine saved in ${directory} waits for a command`, {
      hint: `tsvm restore gives it none; in a process of tsvm serve: tsvm make POOL NAME --snapshot ${shellQuote(directory)} -- COMMAND`,
    });
  }
  const { save, differential = false } = options;
  const onSave = save === undefined ? undefined : () => void saveWithProgress(machine, save, differential);
  stopSignals.switchToCommand();
  stopSignals.watch(machine);
  return await serveCommand(machine, {
    ...options,
    argv: [],
    tty: channel.hasTerminal,
    stopSignals,
    onSave,
  });
}
