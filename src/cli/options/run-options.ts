/** The options of `tsvm run`, and all that they say: read and checked before anything of the host is looked at. */
import type { Command } from 'commander';
import type { ContainerConfig } from '../../container/config.js';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { parsePorts, type SocketPort } from '../../devices/console/config.js';
import { virtioConsole } from '../../devices/console/console.js';
import { type DeviceRequest, deviceKinds } from '../../devices/registry.js';
import { parseVsock, type VsockConfig } from '../../devices/vsock/config.js';
import { vsock } from '../../devices/vsock/kind.js';
import { TsvmError } from '../../errors.js';
import { factOptions } from '../../guest/facts.js';
import { DEFAULT_GUEST, type Guest } from '../../guest/store.js';
import { checkRootDiskBytes } from '../../image/root-disk-size.js';
import { MAX_CPUS, type MachineConfig } from '../../machine/config.js';
import { parseVariables } from '../environment.js';
import { parseChoice, parseCount, parseDuration, parseMemory } from '../values.js';
import { addEnvOptions, addStreamOptions } from './command-options.js';
import { containerConfig } from './container-options.js';
import { addDeviceOptions, collect, type DeviceOptions, deviceRequests } from './device-options.js';
import { guestOption } from './guest-option.js';
import { type AskedMachine, guestNamed, refuseEmptyCommand } from './machine-options.js';
import { addNameOptions, type NameOptions } from './name-options.js';
import { withPublished } from './publish-option.js';
import { PULL_POLICIES, type PullPolicy } from './pull-policy.js';
import { terminalFor } from './terminal-option.js';

const ISOLATIONS = ['vm', 'container'] as const;

export interface RunOptions extends DeviceOptions, NameOptions {
  net?: string[];
  image?: string;
  entrypoint?: string;
  publish?: string[];
  volume?: string[];
  rootDisk?: string;
  pull?: PullPolicy;
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
  envFile?: string[];
  workdir?: string;
  hostname?: string;
  tty?: boolean;
  template: boolean;
  timeout?: string;
  timeline?: string;
}

/** Adds them. */
export function addRunOptions(command: Command): Command {
  command
    .option(
      '--image <image>',
      'the root: a name (debian:12), a directory, an archive, or an OCI layout (LAYOUT:NAME for one of several); all words are the command then',
    )
    .option('--entrypoint <program>', 'with an image: in place of its own Entrypoint and Cmd; empty for none')
    .option('--pull <policy>', 'fetch an image by its name: missing (default), always, never')
    .option('--isolation <kind>', 'vm (default) or container: the same command, on the host’s own kernel')
    .option(
      '-u, --user <user>',
      'with --image, or in a container: UID, UID:GID, or names of the image (default: the image’s)',
    )
    .option(
      '--root-disk <size>',
      'a disk for what is written to the root, in place of memory: 4G, of which is used what is written; thrown away, and with --name kept until `tsvm rm`',
    )
    .option('--pids <n>', 'with --isolation container: processes and threads')
    .addOption(guestOption())
    .option(
      '--kernel <file>',
      'a bzImage or an ELF vmlinux (default: the guest that `tsvm guest build` made)',
    )
    .option('--initrd <file>', 'initramfs with tsvm’s init in it')
    .option('-m, --memory <size>', 'RAM: 256M, 2G (default 128M)')
    .option(
      '--cpus <n>',
      `vCPUs, 1 to ${MAX_CPUS} (default 1); of a container: processor time, 0.5 is half of one CPU`,
    );
  return addStreamOptions(addEnvOptions(addNameOptions(addDeviceOptions(command))))
    .option(
      '-p, --publish <[ip:]host:guest[/proto]>',
      'lead a port of this host’s (127.0.0.1, unless an address is given) to one of the guest’s; repeatable; --net user is added',
      collect,
    )
    .option(
      '-v, --volume <source:target[:ro]>',
      'with --isolation container: a file or directory of the host in it; repeatable',
      collect,
    )
    .option('-w, --workdir <path>', 'the command’s working directory in the guest')
    .option('--hostname <name>', 'the guest’s host name (default: the machine’s name, if it has one)')
    .option('--no-template', 'boot, and save nothing')
    .option('--timeout <duration>', `end the machine after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`)
    .option('--timeline <file>', 'write phases, exits and their cost as JSON');
}

/** Request of a `tsvm run` command line, whichever wall it is for. */
interface AskedCommand {
  /** Program and arguments; empty for those of the image. */
  readonly words: readonly string[];
  readonly timeoutMs: number | undefined;
}

export interface AskedMachineRun extends AskedCommand {
  readonly isolation: 'vm';
  readonly machine: AskedMachine;
  /** Sockets of this machine's, which are none of a template's. */
  readonly sockets: VsockConfig | undefined;
  readonly ports: ReturnType<typeof parsePorts> | undefined;
  readonly rootDiskBytes: number | undefined;
}

export interface AskedContainerRun extends AskedCommand {
  readonly isolation: 'container';
  /** All but its root, its command, and what an image says of that. */
  readonly container: ContainerConfig;
}

/** @throws TsvmError `TSVM_USAGE` that names the option that is wrong. */
export function askedRun(words: readonly string[], options: RunOptions): AskedMachineRun | AskedContainerRun {
  const isolation = parseChoice('--isolation', options.isolation ?? 'vm', ISOLATIONS);
  parseChoice('--pull', options.pull ?? 'missing', PULL_POLICIES);
  checkWords(words, options);
  checkCombination(options, isolation);
  parseVariables(options.env ?? []);
  const net = withPublished(options.net, options.publish);
  const withNet = net === undefined ? options : { ...options, net };
  if (options.hostname !== undefined) factOptions({ hostname: options.hostname });
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
  const common = { words, timeoutMs };
  if (isolation === 'container') return { ...common, isolation, container: askedContainer(options) };
  const sockets = options.vsock === undefined ? undefined : parseVsock(options.vsock);
  const ports = options.ports === undefined ? undefined : parsePorts(options.ports);
  const rootDiskBytes = options.rootDisk === undefined ? undefined : parseRootDisk(options.rootDisk);
  return { ...common, isolation, sockets, ports, rootDiskBytes, machine: askedMachine(withNet, ports) };
}

function parseRootDisk(text: string): number {
  const bytes = parseMemory('--root-disk', text);
  checkRootDiskBytes('--root-disk', bytes);
  return bytes;
}

function checkWords(words: readonly string[], { image, entrypoint }: RunOptions): void {
  const [first] = words;
  if (first === undefined && image === undefined)
    throw new TsvmError('TSVM_USAGE', 'there is no command', { hint: 'tsvm run COMMAND, or tsvm run IMAGE' });
  refuseEmptyCommand(words);
  if (entrypoint === undefined || image !== undefined) return;
  throw new TsvmError('TSVM_USAGE', '--entrypoint: it needs an image', {
    hint: 'tsvm run --entrypoint PROGRAM IMAGE',
  });
}

/** Refuses an option that only the other kind of wall has, which would else be left out. */
function checkCombination(options: RunOptions, isolation: (typeof ISOLATIONS)[number]): void {
  const problem = isolation === 'container' ? containerProblem(options) : machineProblem(options);
  if (problem === undefined) return;
  const [flag, why, hint] = problem;
  throw new TsvmError('TSVM_USAGE', `--${flag}: ${why}`, { hint });
}

type OptionProblem = readonly [flag: string, why: string, hint: string];

/** First option that a container does not have. */
export function containerProblem(options: RunOptions): OptionProblem | undefined {
  const flag = [...MACHINE_OPTIONS, ...DEVICE_FLAGS].find((name) => options[name] !== undefined);
  if (flag !== undefined)
    return [flag, 'a container has no such thing', 'leave it out, or use --isolation vm'];
  if (options.rootDisk !== undefined) {
    const hint = 'leave it out; a directory that keeps what is written: tsvm container run --upper DIR';
    return ['root-disk', 'what a container writes is in memory: half of the host’s, or of --memory', hint];
  }
  if (options.publish !== undefined)
    return ['publish', 'a container has no port of the host’s', '--isolation vm'];
  if (options.net?.some((net) => net !== 'user'))
    return ['net', 'a container has only user', '--net user, or tsvm container run'];
  return undefined;
}

const MACHINE_OPTIONS = ['guest', 'kernel', 'initrd', 'timeline', 'vsock', 'ports'];
const DEVICE_FLAGS = Object.values(deviceKinds).flatMap(({ cliFlag }) =>
  cliFlag === undefined || cliFlag === 'net' ? [] : cliFlag,
);

/** First option that a machine does not have. */
function machineProblem({ pids, user, image, volume }: RunOptions): OptionProblem | undefined {
  if (pids !== undefined)
    return ['pids', 'a machine’s processes are its own kernel’s', 'limit its --memory and --cpus'];
  if (volume !== undefined)
    return [
      'volume',
      'a machine mounts a folder itself',
      '--share DIR:TAG, and in the guest: mount -t virtiofs TAG DIR',
    ];
  if (user !== undefined && image === undefined)
    return ['user', 'it needs an image', '--image DIR, ARCHIVE or LAYOUT'];
  return undefined;
}

function askedContainer({
  net,
  cpus,
  memory,
  pids,
  volume,
  workdir,
  hostname,
  tty,
}: RunOptions): ContainerConfig {
  return containerConfig(
    [],
    {
      ...(net === undefined ? {} : { net: 'user' }),
      ...(cpus === undefined ? {} : { cpus }),
      ...(memory === undefined ? {} : { memory }),
      ...(pids === undefined ? {} : { pids }),
      ...(volume === undefined ? {} : { volume }),
      ...(workdir === undefined ? {} : { workdir }),
      ...(hostname === undefined ? {} : { hostname }),
    },
    terminalFor(tty),
  );
}

function askedMachine(options: RunOptions, ports: readonly SocketPort[] | undefined): AskedMachine {
  for (const disk of options.disk ?? []) {
    if (!disk.split(',').includes('ro') && options.template) {
      throw new TsvmError('TSVM_USAGE', `--disk ${disk}: a machine from a template only reads its disks`, {
        hint: `add ,ro: --disk ${disk},ro; or boot: --no-template`,
      });
    }
  }
  const { kernel, initrd } = options;
  const config: MachineConfig = {
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    cmdline: 'reboot=k panic=-1',
    discovery: 'acpi',
    ...(options.memory === undefined ? {} : { memoryBytes: parseMemory('--memory', options.memory) }),
    ...(options.cpus === undefined ? {} : { cpus: parseCount('--cpus', options.cpus, 1, MAX_CPUS) }),
    devices: [
      ...deviceRequests({ ...options, vsock: undefined, ports: undefined }),
      // Paths and CID are this machine's, not the template's.
      ...(options.vsock === undefined ? [] : [vsock()]),
      ...(ports === undefined ? [] : [portsRequest(ports, options.template)]),
    ],
    channel: true,
  };
  const named = deviceRequests(options);
  if (kernel !== undefined && initrd !== undefined) return { config, named };
  const withGuest = (guest: Guest): MachineConfig => ({
    ...config,
    kernel: kernel ?? guest.kernel,
    initrd: initrd ?? guest.initrd,
    cmdline: guest.cmdline,
    discovery: guest.discovery,
  });
  // The Debian guest's initramfs has no modules of another kernel.
  const guest = kernel === undefined ? guestNamed(options) : { guest: DEFAULT_GUEST };
  return { config, named, ...guest, withGuest };
}

function portsRequest(ports: readonly SocketPort[], withoutPaths: boolean): DeviceRequest {
  return virtioConsole({ console: false, ports: withoutPaths ? ports.map(({ name }) => ({ name })) : ports });
}
