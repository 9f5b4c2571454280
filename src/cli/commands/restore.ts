/** `tsvm restore`: a saved machine goes on in the foreground. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { instanceEnd } from '../../control/instance-end.js';
import { lookAtSaveFolder } from '../../machine/check.js';
import { restoreMachine } from '../../machine/restore.js';
import { addBindingOptions, deviceBindings, sayBound, withCommandLine } from '../binding-options.js';
import type { DeviceOptions } from '../device-options.js';
import { EndSignals } from '../end-signals.js';
import { runMachine } from '../foreground.js';
import { lookAtTimeline } from '../machine-end.js';
import { addNameOptions, detached, type NameOptions, publishNamed } from '../named-machine.js';
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

Exit status: as of tsvm boot.`;

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
      const status = await detached(options);
      if (status !== undefined) {
        process.exitCode = status;
        return;
      }
      lookAtTimeline(options.timeline);
      if (options.save !== undefined) await lookAtSaveFolder(options.save);
      const deadline = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
      using signals = new EndSignals();
      await using machine = await restoreMachine(directory, { disks, devices, onBind: sayBound }).catch(
        async (error) => {
          throw await withCommandLine(error, directory, { devices });
        },
      );
      const published = await publishNamed(machine, [], options);
      const { end, exitCode } = await runMachine(machine, {
        ...options,
        usesOurInit: false,
        signals,
        deadline,
      });
      await published?.finish(instanceEnd(end, exitCode));
      process.exitCode = exitCode;
    });
}
