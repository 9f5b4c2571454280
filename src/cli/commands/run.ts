/** `tsvm run`: a command in a machine of its own, from a template. */
import { Command } from 'commander';
import { logCommand } from '../../control/command-log.js';
import { EXIT_CODES, exitCodeOf } from '../../control/exit-codes.js';
import { commandEnd, instanceEnd } from '../../control/instance-end.js';
import { pathsByName } from '../../devices/console-config.js';
import type { VsockConfig } from '../../devices/vsock-config.js';
import { TsvmError } from '../../errors.js';
import { type MachineRoot, machineRoot } from '../../image/machine-root.js';
import type { GuestCommand, MachineConfig } from '../../machine/config.js';
import { freshFacts } from '../../machine/guest-facts.js';
import type { Machine } from '../../machine/machine.js';
import { bootToReady, machineFromTemplate } from '../../template/template.js';
import { formatBytes } from '../../util/units.js';
import { backgroundName, sayReady } from '../background.js';
import { showBootProgress } from '../boot-progress.js';
import { attachConsole } from '../console.js';
import { withEnvFiles } from '../env-file.js';
import { environment, parseVariables } from '../environment.js';
import { imageCommand, lookAtImage } from '../image-command.js';
import { explainEnd, lookAtTimeline, writeTimeline } from '../machine-end.js';
import { completeMachine } from '../machine-options.js';
import { detached, publishNamed } from '../named-machine.js';
import { runContainer } from '../run-container.js';
import {
  type AskedContainerRun,
  type AskedMachineRun,
  addRunOptions,
  askedRun,
  type RunOptions,
} from '../run-options.js';
import { connectStreams } from '../run-streams.js';
import { Stopper } from '../stopper.js';
import { sayWithoutKvm, withoutKvm } from '../without-kvm.js';

const EXAMPLES = `
Examples:
  tsvm run uname -a                               the first time boots and saves a template, later ones start from it
  tsvm run -- sh                                  a shell on this terminal
  tar c src | tsvm run -- sh -c 'tar x && ls'     standard input, output and error are the command's, byte for byte
  tsvm run -e TOKEN -w /tmp --memory 256M -- ./job
  tsvm run -d --name job -- ./job                 in the background: tsvm logs job, tsvm wait job
  tsvm run --no-template -- true                  boot, and keep nothing
  tsvm run --image ./debian -- cat /etc/os-release            another root: a directory, an archive, an OCI layout
  tsvm run --image ./layout:app --isolation container -- ./job     the same in a container, on the host's own kernel
  tsvm run --isolation container uname -a         a container over the default guest's root: no KVM is needed

Exit status: the command's own (127 not found, 126 not executable, 128 + N after signal N); 2 bad usage or input;
${EXIT_CODES.guestPanic} guest kernel panic; ${EXIT_CODES.tripleFault} triple fault; ${EXIT_CODES.timeout} timeout; ${EXIT_CODES.hostFailure} host or KVM failure.

The first word that is no option begins the command. SIGINT and SIGTERM go to the command; a second one ends the machine. What the guest writes is gone when it ends.
Disks of a machine from a template are only read: --disk root.img,ro.`;

export function runCommand(): Command {
  const command = new Command('run')
    .summary('run a command in a machine of its own, restored from a template')
    .description(
      'Run a command in a fresh machine. The first time, a machine is booted to where its init waits and saved as a template; every later machine of the same configuration is restored from it.',
    )
    .argument('[command...]', 'the command and its arguments; without, the image’s')
    .passThroughOptions();
  return addRunOptions(command)
    .addHelpText('after', EXAMPLES)
    .action(async (command: string[], options: RunOptions) => {
      process.exitCode = await run(command, options);
    });
}

async function run(words: readonly string[], options: RunOptions): Promise<number> {
  const asked = askedRun(words, options);
  // Nothing of a machine without a name is left in any case, as Docker’s --rm has it.
  const rm = options.rm === true && (options.name !== undefined || options.detach === true);
  const apart = await detached({ ...options, rm });
  if (apart !== undefined) return apart;
  const withFiles = await withEnvFiles(options);
  lookAtTimeline(options.timeline);
  if (options.image !== undefined) await lookAtImage(words, options.image);
  return asked.isolation === 'container'
    ? await runInContainer(asked, withFiles)
    : await runMachine(asked, withFiles).catch(withoutKvm);
}

async function runInContainer(asked: AskedContainerRun, options: RunOptions): Promise<number> {
  const { words, timeoutMs, container } = asked;
  const { image, command, hostname } = await imageCommand(words, options);
  // What the image says is data, which the grammar of options does not see.
  const { argv, env, cwd } = command;
  const { uid, gid } = command.user;
  const config = { ...container, layers: [image.root], argv, hostname, env, cwd, user: { uid, gid } };
  sayWithoutKvm('with a KVM, the same command without --isolation container has a kernel of its own');
  return await runContainer({ ...config, makeCwd: options.workdir === undefined }, { ...options, timeoutMs });
}

async function runMachine(asked: AskedMachineRun, options: RunOptions): Promise<number> {
  const { words, timeoutMs, sockets, ports } = asked;
  const config = await completeMachine(asked.machine);
  const image = options.image === undefined ? undefined : await imageCommand(words, options);
  const root = image === undefined ? undefined : await machineRoot(image.image, image.store, sayMaking);
  const apart = backgroundName() !== undefined;
  const tty = options.tty ?? (!apart && process.stdin.isTTY === true && process.stdout.isTTY === true);
  const command: GuestCommand = {
    argv: words,
    env: { TERM: process.env['TERM'] ?? 'linux', ...environment(parseVariables(options.env ?? [])) },
    ...(options.workdir === undefined ? {} : { cwd: options.workdir }),
    ...image?.command,
    tty,
    ...(tty ? { rows: process.stdout.rows, columns: process.stdout.columns } : {}),
  };
  const hostname = image?.hostname ?? options.hostname;
  const stopper = new Stopper(timeoutMs);
  try {
    const whole = withRoot(config, root);
    const machine = options.template
      ? await fromTemplate(whole, ports, stopper)
      : await booted(whole, stopper);
    await using _ = machine;
    if (sockets !== undefined) await serveSockets(machine, sockets);
    return await serve(machine, command, hostname, options, stopper);
  } catch (error) {
    if (stopper.exitCode === undefined) throw error;
    explainTimeout(stopper, options);
    return stopper.exitCode;
  } finally {
    stopper.close();
  }
}

const sayMaking = (): void => void process.stderr.write('tsvm: making a file system of the image, once\n');

/** Adds the device of the root, the first of its kind, by which the guest finds it. */
function withRoot(config: MachineConfig, root: MachineRoot | undefined): MachineConfig {
  if (root === undefined) return config;
  const { cmdline = '', devices = [] } = config;
  return { ...config, cmdline: `${cmdline} ${root.parameters}`, devices: [root.device, ...devices] };
}

async function serveSockets(machine: Machine, { path, cid }: VsockConfig): Promise<void> {
  if (cid !== undefined && cid !== machine.vsock?.cid) machine.vsock?.renumber(cid);
  if (path !== undefined) await machine.vsock?.bind(path);
}

async function fromTemplate(
  config: MachineConfig,
  ports: AskedMachineRun['ports'],
  stopper: Stopper,
): Promise<Machine> {
  let stopProgress = (): void => {};
  const machine = await machineFromTemplate(config, {
    signal: stopper.signal,
    ...(ports === undefined ? {} : { ports: pathsByName(ports) }),
    onBoot(template) {
      process.stderr.write('tsvm: booting a template for this configuration, once\n');
      stopProgress = showBootProgress(template);
      stopper.watch(template);
    },
    onWait: () => process.stderr.write('tsvm: waiting for another process that boots this template\n'),
    onSaved({ directory, memoryBytes }) {
      stopProgress();
      process.stderr.write(`tsvm: saved in ${directory} (${formatBytes(memoryBytes)})\n`);
    },
  });
  stopper.watch(machine);
  return machine;
}

async function booted(config: MachineConfig, stopper: Stopper): Promise<Machine> {
  return await bootToReady(config, (machine) => {
    stopper.watch(machine);
    showBootProgress(machine);
  });
}

async function serve(
  machine: Machine,
  command: GuestCommand,
  hostname: string | undefined,
  options: RunOptions,
  stopper: Stopper,
): Promise<number> {
  const { channel } = machine;
  const tty = command.tty === true;
  if (channel === undefined) throw new TsvmError('TSVM_STATE', 'the machine has no channel');
  const published = await publishNamed(machine, command.argv, options);
  const apart = published !== undefined && backgroundName() !== undefined;
  const detach = tty && !apart ? attachConsole(machine, { waitForCommand: true }) : () => {};
  const drained = tty
    ? async () => {}
    : apart
      ? logCommand(channel, published.instance)
      : connectStreams(channel);
  try {
    if (tty) process.stdout.on('resize', () => channel.resize(process.stdout.rows, process.stdout.columns));
    channel.send(command, {
      ...freshFacts(),
      ...(hostname === undefined ? {} : { hostname }),
    });
    if (machine.state === 'ready') await machine.start();
    if (apart) sayReady();
    stopper.forwardTo((number) => channel.signal(number));
    const status = await channel.exited;
    await drained();
    await machine.stop();
    detach();
    const end = await machine.wait();
    explainTimeout(stopper, options);
    if (stopper.exitCode !== EXIT_CODES.timeout && status === undefined) explainEnd(end);
    if (options.timeline !== undefined) writeTimeline(options.timeline, machine);
    const exitCode = stopper.exitCode ?? status ?? exitCodeOf(end);
    await published?.finish(status === undefined ? instanceEnd(end, exitCode) : commandEnd(exitCode));
    return exitCode;
  } finally {
    detach();
    // A pipe that nobody reads would keep this process.
    if (!tty) process.stdin.destroy();
  }
}

function explainTimeout(stopper: Stopper, options: RunOptions): void {
  if (stopper.exitCode === EXIT_CODES.timeout)
    process.stderr.write(`tsvm: the machine was ended after ${options.timeout}, as --timeout asks\n`);
}
