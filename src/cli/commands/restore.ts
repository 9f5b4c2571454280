/** `tsvm restore`: a saved machine goes on in the foreground. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { instanceEnd } from '../../control/instance-end.js';
import { parsePorts, pathsByName } from '../../devices/console-config.js';
import { restoreMachine } from '../../machine/restore.js';
import { EndSignals } from '../end-signals.js';
import { runMachine } from '../foreground.js';
import { addNameOptions, detached, type NameOptions, publishNamed } from '../named-machine.js';
import { parseChoice, parseDuration } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm restore here                          go on where the machine in here/ stood; here/ stays as it is
  tsvm restore here --disks direct           the guest writes to its disks themselves; here/ cannot be restored after that
  tsvm restore here --save next --differential
                                             Ctrl-A s saves what changed since; next/ needs here/

Exit status: as of tsvm boot.`;

interface RestoreCliOptions extends NameOptions {
  disks: string;
  vsock?: string;
  ports?: string;
  timeout?: string;
  timeline?: string;
  save?: string;
  differential?: boolean;
}

export function restoreCommand(): Command {
  const command = new Command('restore')
    .summary('go on with a saved machine')
    .description('Make the machine that was saved in a folder and give it this terminal.')
    .argument('<dir>', 'what `tsvm snapshot`, or Ctrl-A s, saved')
    .option('--disks <how>', 'overlay (what the guest writes is thrown away), or direct', 'overlay')
    .option('--vsock <path>', 'where its Unix sockets are now (default: where they were)')
    .option('--ports <spec>', 'where its ports’ Unix sockets are now: NAME=SOCKET[,NAME=SOCKET ...]')
    .option('--timeout <duration>', `end the machine after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`)
    .option('--timeline <file>', 'write phases, exits and their cost as JSON')
    .option('--save <dir>', 'where Ctrl-A s, or SIGUSR1, saves the machine')
    .option('--differential', 'save only what changed since <dir>');
  return addNameOptions(command)
    .addHelpText('after', EXAMPLES)
    .action(async (directory: string, options: RestoreCliOptions) => {
      const status = await detached(options);
      if (status !== undefined) {
        process.exitCode = status;
        return;
      }
      const timeoutMs =
        options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
      const disks = parseChoice('--disks', options.disks, ['overlay', 'direct']);
      const deadline = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
      using signals = new EndSignals();
      await using machine = await restoreMachine(directory, {
        disks,
        ...(options.vsock === undefined ? {} : { vsock: options.vsock }),
        ...(options.ports === undefined ? {} : { ports: pathsByName(parsePorts(options.ports)) }),
      });
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
