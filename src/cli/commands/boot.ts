/** `tsvm boot`: a machine in the foreground. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { instanceEnd } from '../../control/instance-end.js';
import { ESCAPE_HELP } from '../../host/tty.js';
import { lookAtSaveFolder } from '../../machine/check.js';
import { createMachine } from '../../machine/create.js';
import {
  addMachineOptions,
  askedMachine,
  completeMachine,
  type MachineOptions,
} from '../options/machine-options.js';
import { addNameOptions, type NameOptions } from '../options/name-options.js';
import { stayWithMachine } from '../session/foreground.js';
import { explainFullRoot, lookAtTimeline } from '../session/machine-end.js';
import { publishNamed, startDetached } from '../session/named-machine.js';
import { StopSignals } from '../session/stop-signals.js';
import { parseDuration } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm boot                                      the default guest, to a shell
  tsvm boot cat /proc/cpuinfo                    run one command; its exit status is tsvm's
  tsvm boot --memory 1G --cpus 4 -- make -j4
  tsvm boot --disk data.img --disk tools.img,ro  /dev/vda and /dev/vdb
  tsvm boot --net user,hostfwd=tcp:127.0.0.1:8080-:80
  tsvm boot --kernel /boot/vmlinuz --initrd initrd.img --append 'quiet'
  tsvm boot --timeout 60s --timeline boot.json -- true
  tsvm boot --share src:src,ro                   in the guest: mount -t virtiofs src /mnt
  tsvm boot --vsock /tmp/vm.sock                 CONNECT <port> to /tmp/vm.sock; port P of the host is /tmp/vm.sock_P
  tsvm boot --name web -d --net user,hostfwd=tcp:127.0.0.1:8080-:80     in the background; then tsvm attach web
  tsvm boot --save here                          Ctrl-A s saves the machine; tsvm restore here goes on

Exit status: the guest command's own; 0 after a power-off; 2 bad usage or input; ${EXIT_CODES.guestPanic} guest kernel panic;
${EXIT_CODES.tripleFault} triple fault; ${EXIT_CODES.guestReset} guest asked for a reset (unless --reboot); ${EXIT_CODES.timeout} timeout; ${EXIT_CODES.hostFailure} host or KVM failure;
${EXIT_CODES.interrupted} ended by Ctrl-A x or SIGINT; ${EXIT_CODES.terminated} by SIGTERM.

On a terminal: ${ESCAPE_HELP.split('\r\n').join('; ')}.`;

interface BootOptions extends MachineOptions, NameOptions {
  timeout?: string;
  timeline?: string;
  reboot?: boolean;
  save?: string;
}

export function bootCommand(): Command {
  const command = new Command('boot')
    .summary('boot a machine in the foreground')
    .description(
      'Boot a machine and give it this terminal. Without --kernel, the default guest that `tsvm guest build` made.',
    )
    .argument('[command...]', 'run by the guest’s init instead of a shell')
    .passThroughOptions();
  return addNameOptions(addMachineOptions(command))
    .option('--timeout <duration>', `end the machine after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`)
    .option('--timeline <file>', 'write phases, exits and their cost as JSON')
    .option('--reboot', 'start again when the guest asks for a reset')
    .option('--save <dir>', 'where Ctrl-A s, or SIGUSR1, saves the machine (see `tsvm restore`)')
    .addHelpText('after', EXAMPLES)
    .action(async (argv: string[], options: BootOptions) => {
      process.exitCode = await boot(argv, options);
    });
}

async function boot(argv: readonly string[], options: BootOptions): Promise<number> {
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
  const asked = askedMachine(argv, options);
  const status = await startDetached(options);
  if (status !== undefined) return status;
  lookAtTimeline(options.timeline);
  if (options.save !== undefined) await lookAtSaveFolder(options.save);
  const config = await completeMachine(asked);
  const { usesOurInit } = asked;
  using stopSignals = StopSignals.ofMachine(timeoutMs);
  for (;;) {
    await using machine = await createMachine(config);
    explainFullRoot(machine, '--memory gives one in memory more');
    await using published = await publishNamed(machine, argv, options);
    const { end, exitCode, forced } = await stayWithMachine(machine, stopSignals, {
      ...options,
      usesOurInit,
    });
    await published?.finish(instanceEnd(end, exitCode));
    if (forced || end.kind !== 'reset' || options.reboot !== true) return exitCode;
  }
}
