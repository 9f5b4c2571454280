/** `tsvm run`: a command in a machine of its own, from a template. */
import { Command } from 'commander';
import { logCommand } from '../../control/command-log.js';
import { EXIT_CODES, exitCodeOf } from '../../control/exit-codes.js';
import { commandEnd, instanceEnd } from '../../control/instance-end.js';
import { parsePorts, pathsByName, type SocketPort } from '../../devices/console-config.js';
import { type DeviceRequest, deviceKinds } from '../../devices/registry.js';
import { virtioConsole } from '../../devices/virtio/console.js';
import { vsock } from '../../devices/virtio/vsock.js';
import { parseVsock, type VsockConfig } from '../../devices/vsock-config.js';
import { TsvmError } from '../../errors.js';
import { DEFAULT_GUEST, findGuest } from '../../host/guest-store.js';
import { type MachineRoot, machineRoot } from '../../image/machine-root.js';
import type { GuestCommand, MachineConfig } from '../../machine/config.js';
import { MAX_CPUS } from '../../machine/config.js';
import { freshFacts } from '../../machine/guest-facts.js';
import type { Machine } from '../../machine/machine.js';
import { bootToReady, machineFromTemplate } from '../../template/template.js';
import { formatBytes } from '../../util/units.js';
import { backgroundName, sayReady } from '../background.js';
import { showBootProgress } from '../boot-progress.js';
import { attachConsole } from '../console.js';
import { containerConfig } from '../container-options.js';
import { addDeviceOptions, collect, type DeviceOptions, deviceRequests } from '../device-options.js';
import { environment, parseVariables } from '../environment.js';
import { cliGuest, guestOption } from '../guest-option.js';
import { type ImageCommand, imageCommand } from '../image-command.js';
import { explainEnd, writeTimeline } from '../machine-end.js';
import { addNameOptions, detached, type NameOptions, publishNamed } from '../named-machine.js';
import { runContainer, terminalFor } from '../run-container.js';
import { connectStreams } from '../run-streams.js';
import { Stopper } from '../stopper.js';
import { parseChoice, parseCount, parseDuration, parseSize } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm run -- uname -a                            the first time boots and saves a template, later ones start from it
  tsvm run -- sh                                  a shell on this terminal
  tar c src | tsvm run -- sh -c 'tar x && ls'     standard input, output and error are the command's, byte for byte
  tsvm run -e TOKEN -w /tmp --memory 256M -- ./job
  tsvm run -d --name job -- ./job                 in the background: tsvm logs job, tsvm wait job
  tsvm run --no-template -- true                  boot, and keep nothing
  tsvm run --image ./debian -- cat /etc/os-release            another root: a directory, an archive, an OCI layout
  tsvm run --image ./layout:app --isolation container -- ./job     the same in a container, on the host's own kernel

Exit status: the command's own (127 not found, 126 not executable, 128 + N after signal N); 2 bad usage or input;
${EXIT_CODES.guestPanic} guest kernel panic; ${EXIT_CODES.tripleFault} triple fault; ${EXIT_CODES.timeout} timeout; ${EXIT_CODES.hostFailure} host or KVM failure.

SIGINT and SIGTERM go to the command; a second one ends the machine. What the guest writes is gone when it ends.
Disks of a machine from a template are only read: --disk root.img,ro.`;

const ISOLATIONS = ['vm', 'container'] as const;

interface RunOptions extends DeviceOptions, NameOptions {
  net?: string;
  image?: string;
  isolation?: string;
  user?: string;
  pids?: string;
  guest?: string;
  kernel?: string;
  initrd?: string;
  memory?: string;
  cpus?: string;
  disk?: string[];
  vsock?: string;
  ports?: string;
  env?: string[];
  workdir?: string;
  hostname?: string;
  tty: boolean;
  template: boolean;
  timeout?: string;
  timeline?: string;
}

export function runCommand(): Command {
  const command = new Command('run')
    .summary('run a command in a machine of its own, restored from a template')
    .description(
      'Run a command in a fresh machine. The first time, a machine is booted to where its init waits and saved as a template; every later machine of the same configuration is restored from it.',
    )
    .argument('[command...]', 'the command and its arguments (after --); without, the image’s')
    .option(
      '--image <path>',
      'the root: a directory, an archive, or an OCI layout (LAYOUT:TAG for one of several)',
    )
    .option('--isolation <kind>', 'vm (default) or container: the same command, on the host’s own kernel')
    .option('--user <user>', 'with --image: UID, UID:GID, or names of the image (default: the image’s)')
    .option('--pids <n>', 'with --isolation container: processes and threads')
    .addOption(guestOption())
    .option(
      '--kernel <file>',
      'a bzImage or an ELF vmlinux (default: the guest that `tsvm guest build` made)',
    )
    .option('--initrd <file>', 'initramfs with tsvm’s init in it')
    .option('--memory <size>', 'RAM: 256M, 2G (default 128M)')
    .option(
      '--cpus <n>',
      `vCPUs, 1 to ${MAX_CPUS} (default 1); of a container: processor time, 0.5 is half of one CPU`,
    );
  return addNameOptions(addDeviceOptions(command))
    .option('-e, --env <name[=value]>', 'an environment variable; without a value, this process’s', collect)
    .option('-w, --workdir <path>', 'the command’s working directory in the guest')
    .option('--hostname <name>', 'the guest’s host name')
    .option('--no-tty', 'give the command pipes also on a terminal')
    .option('--no-template', 'boot, and save nothing')
    .option('--timeout <duration>', `end the machine after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`)
    .option('--timeline <file>', 'write phases, exits and their cost as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (command: string[], options: RunOptions) => {
      process.exitCode = await run(command, options);
    });
}

async function run(words: readonly string[], options: RunOptions): Promise<number> {
  const isolation = parseChoice('--isolation', options.isolation ?? 'vm', ISOLATIONS);
  if (words.length === 0 && options.image === undefined) {
    throw new TsvmError('TSVM_USAGE', 'there is no command', { hint: 'tsvm run -- COMMAND' });
  }
  checkCombination(options, isolation);
  const apart = await detached(options);
  if (apart !== undefined) return apart;
  const { image: path } = options;
  const image = path === undefined ? undefined : await imageCommand(words, { ...options, image: path });
  if (isolation === 'container' && image !== undefined) return await runImageInContainer(image, options);
  return await runMachine(words, image, options);
}

/** What one kind of wall has and the other has not is refused, not left out. */
function checkCombination(options: RunOptions, isolation: (typeof ISOLATIONS)[number]): void {
  const given = (names: readonly string[]): string | undefined =>
    names.find((name) => options[name] !== undefined);
  const refuse = (flag: string, why: string, hint: string): never => {
    throw new TsvmError('TSVM_USAGE', `--${flag}: ${why}`, { hint });
  };
  if (isolation === 'container') {
    if (options.image === undefined)
      refuse('isolation container', 'it needs an image', '--image DIR, ARCHIVE or LAYOUT');
    const machines = given([
      'guest',
      'kernel',
      'initrd',
      'timeline',
      'vsock',
      'ports',
      'name',
      'detach',
      ...Object.values(deviceKinds).flatMap(({ cliFlag }) =>
        cliFlag === undefined || cliFlag === 'net' ? [] : cliFlag,
      ),
    ]);
    if (machines !== undefined)
      refuse(machines, 'a container has no such thing', 'leave it out, or use --isolation vm');
    if (options.net !== undefined && options.net !== 'user')
      refuse('net', 'a container has only user', '--net user, or tsvm container run');
    return;
  }
  if (options.pids !== undefined)
    refuse('pids', 'a machine’s processes are its own kernel’s', 'limit its --memory and --cpus');
  if (options.user !== undefined && options.image === undefined)
    refuse('user', 'it needs an image', '--image DIR, ARCHIVE or LAYOUT');
}

async function runImageInContainer(
  { image, command, hostname }: ImageCommand,
  options: RunOptions,
): Promise<number> {
  const config = containerConfig(
    command.argv,
    {
      rootfs: image.root,
      hostname,
      ...(options.net === undefined ? {} : { net: options.net }),
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(options.memory === undefined ? {} : { memory: options.memory }),
      ...(options.pids === undefined ? {} : { pids: options.pids }),
    },
    terminalFor(options.tty ? undefined : false),
  );
  // What the image says is data, which the grammar of options does not see.
  const { uid, gid } = command.user;
  const { env, cwd } = command;
  const makeCwd = options.workdir === undefined;
  return await runContainer({ ...config, env, cwd, makeCwd, user: { uid, gid } }, options);
}

async function runMachine(
  words: readonly string[],
  image: ImageCommand | undefined,
  options: RunOptions,
): Promise<number> {
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
  const sockets = options.vsock === undefined ? undefined : parseVsock(options.vsock);
  const ports = options.ports === undefined ? undefined : parsePorts(options.ports);
  const root = image === undefined ? undefined : await machineRoot(image.image, image.store, sayMaking);
  const config = await machineConfig(options, ports, root);
  const apart = backgroundName() !== undefined;
  const tty = options.tty && !apart && process.stdin.isTTY === true && process.stdout.isTTY === true;
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
    const machine = options.template
      ? await fromTemplate(config, ports, stopper)
      : await booted(config, stopper);
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

async function serveSockets(machine: Machine, { path, cid }: VsockConfig): Promise<void> {
  if (cid !== undefined && cid !== machine.vsock?.cid) machine.vsock?.renumber(cid);
  if (path !== undefined) await machine.vsock?.bind(path);
}

async function machineConfig(
  options: RunOptions,
  ports: readonly SocketPort[] | undefined,
  root: MachineRoot | undefined,
): Promise<MachineConfig> {
  const guest =
    options.kernel === undefined
      ? await cliGuest(options.guest)
      : options.initrd === undefined
        ? await findGuest(DEFAULT_GUEST) // its initramfs has no modules of another kernel
        : undefined;
  for (const disk of options.disk ?? []) {
    if (!disk.split(',').includes('ro') && options.template) {
      throw new TsvmError('TSVM_USAGE', `--disk ${disk}: a machine from a template only reads its disks`, {
        hint: `add ,ro: --disk ${disk},ro; or boot: --no-template`,
      });
    }
  }
  const kernel = options.kernel ?? guest?.kernel;
  const initrd = options.initrd ?? guest?.initrd;
  return {
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    cmdline: [guest?.cmdline ?? 'reboot=k panic=-1', root?.parameters].filter(Boolean).join(' '),
    discovery: guest?.discovery ?? 'acpi',
    ...(options.memory === undefined ? {} : { memoryBytes: parseSize('--memory', options.memory) }),
    ...(options.cpus === undefined ? {} : { cpus: parseCount('--cpus', options.cpus, 1, MAX_CPUS) }),
    devices: [
      // The first of its kind, by which the guest finds it.
      ...(root === undefined ? [] : [root.device]),
      ...deviceRequests({ ...options, vsock: undefined, ports: undefined }),
      // Paths and CID are this machine's, not the template's.
      ...(options.vsock === undefined ? [] : [vsock()]),
      ...(ports === undefined ? [] : [portsRequest(ports, options.template)]),
    ],
    channel: true,
  };
}

function portsRequest(ports: readonly SocketPort[], withoutPaths: boolean): DeviceRequest {
  return virtioConsole({ console: false, ports: withoutPaths ? ports.map(({ name }) => ({ name })) : ports });
}

async function fromTemplate(
  config: MachineConfig,
  ports: ReturnType<typeof parsePorts> | undefined,
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
  const detach = tty ? attachConsole(machine, { waitForCommand: true }) : () => {};
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
    if (options.timeline !== undefined) await writeTimeline(options.timeline, machine);
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
