/** `tsvm run`: a command in a machine of its own, from a template. */
import { Command } from 'commander';
import { EXIT_CODES } from '../../control/exit-codes.js';
import { blk } from '../../devices/blk/blk.js';
import { pathsByName } from '../../devices/console/config.js';
import type { DeviceRequest } from '../../devices/registry.js';
import type { VsockConfig } from '../../devices/vsock/config.js';
import { checkSentCommand, type GuestCommand } from '../../guest/command.js';
import { findGuest } from '../../guest/store.js';
import { type MachineRoot, machineRoot } from '../../image/machine-root.js';
import type { RootDisk } from '../../image/root-disk.js';
import type { MachineConfig } from '../../machine/config.js';
import type { Machine } from '../../machine/machine.js';
import { bootToReady, machineFromTemplate } from '../../template/template.js';
import { formatBytes } from '../../util/units.js';
import { backgroundName } from '../background.js';
import { environment, parseVariables } from '../environment.js';
import { withEnvFiles } from '../options/env-file.js';
import { imageCommand, type OpenedImage, openImage } from '../options/image-command.js';
import { completeMachine } from '../options/machine-options.js';
import {
  type AskedContainerRun,
  type AskedMachineRun,
  addRunOptions,
  askedRun,
  containerProblem,
  type RunOptions,
} from '../options/run-options.js';
import { isOnTerminal } from '../options/terminal-option.js';
import { showBootProgress } from '../session/boot-progress.js';
import { hasProgram, sayBothSpellings, takeWords } from '../session/first-word.js';
import { explainTimeout, serveCommand } from '../session/foreground.js';
import { explainFullRoot, lookAtTimeline } from '../session/machine-end.js';
import { machineName, startDetached } from '../session/named-machine.js';
import { fetchImage, lookUpImage } from '../session/pull-image.js';
import { runContainer } from '../session/run-container.js';
import { StopSignals } from '../session/stop-signals.js';
import { sayWithoutKvm, withContainerHint } from '../without-kvm.js';

/** Exit status of a command whose program is not there; a shell's. */
const NOT_FOUND = 127;

const EXAMPLES = `
Examples:
  tsvm run uname -a                               the first time boots and saves a template, later ones start from it
  tsvm run -- sh                                  a shell on this terminal
  tar c src | tsvm run -- sh -c 'tar x && ls'     standard input, output and error are the command's, byte for byte
  tsvm run -e TOKEN -w /tmp --memory 256M -- ./job
  tsvm run -d --name job -- ./job                 in the background: tsvm logs job, tsvm wait job
  tsvm run --no-template -- true                  boot, and keep nothing
  tsvm run debian:12 cat /etc/os-release          another root: fetched from Docker Hub, once
  tsvm run -it debian:12                          the command that the image names
  tsvm run -p 8080:80 -m 512M nginx:latest         http://127.0.0.1:8080 leads into it
  tsvm run --image ./debian cat /etc/os-release   a directory, an archive, an OCI layout
  tsvm run --image ./layout:app --isolation container -- ./job     the same in a container, on the host's own kernel
  tsvm run --isolation container uname -a         a container over the default guest's root: no KVM is needed

Exit status: the command's own (127 not found, 126 not executable, 128 + N after signal N); 2 bad usage or input;
${EXIT_CODES.guestPanic} guest kernel panic; ${EXIT_CODES.tripleFault} triple fault; ${EXIT_CODES.timeout} timeout; ${EXIT_CODES.hostFailure} host or KVM failure.

The first word that is no option is an image if it has a :, @ or / as a name of one has, or names one of \`tsvm images\`; else it is the
guest's program. A path (./x, /bin/x) is a program, and so is any word after --; --image gives the image, and all words are the command then.
SIGINT and SIGTERM go to the command; a second one ends the machine. What the guest writes is gone when it ends.
Disks of a machine from a template are only read: --disk root.img,ro.`;

export function runCommand(): Command {
  const command = new Command('run')
    .summary('run a command in a machine of its own, restored from a template')
    .description(
      'Run a command in a fresh machine. The first time, a machine is booted to where its init waits and saved as a template; every later machine of the same configuration is restored from it.',
    )
    .usage('[options] [IMAGE] [COMMAND...]')
    .argument('[command...]', 'the command and its arguments; without, the image’s')
    .passThroughOptions();
  return addRunOptions(command)
    .addHelpText('after', EXAMPLES)
    .action(async (_words: string[], options: RunOptions, command: Command) => {
      const { words, image, isEither } = await takeWords(command, options);
      process.exitCode = await run(words, image === undefined ? options : { ...options, image });
      const [word = ''] = words;
      if (process.exitCode === NOT_FOUND && isEither && !(await isOfGuest(word, options)))
        sayBothSpellings(word);
    });
}

/** Tells whether the guest of a command line has a program of that name. */
async function isOfGuest(word: string, { guest, initrd }: RunOptions): Promise<boolean> {
  return hasProgram(initrd ?? (await findGuest(guest)).initrd, word);
}

async function run(words: readonly string[], options: RunOptions): Promise<number> {
  const asked = askedRun(words, options);
  // Nothing of a machine without a name is left in any case, as Docker’s --rm has it.
  const rm = options.rm === true && (options.name !== undefined || options.detach === true);
  const status = await startDetached({ ...options, rm });
  if (status !== undefined) return status;
  const withFiles = await withEnvFiles(options);
  lookAtTimeline(options.timeline);
  const image = await imageOf(words, options);
  return asked.isolation === 'container'
    ? await runInContainer(asked, withFiles, image)
    : await runInMachine(asked, withFiles, image).catch((error: unknown) => {
        // A container that would refuse these options is no way out.
        throw containerProblem(options) === undefined ? withContainerHint(error) : error;
      });
}

/** Gives the image of a command, for which it may have to be fetched. */
type ImageSource = () => Promise<OpenedImage>;

/** Opens an image that is here, before anything else is looked at. One that is not is fetched when all else is known to be right. */
async function imageOf(
  words: readonly string[],
  { image: text, pull = 'missing', entrypoint }: RunOptions,
): Promise<ImageSource | undefined> {
  if (text === undefined) return undefined;
  const named = await lookUpImage(text, pull);
  if (named.reference !== undefined)
    return async () => await openImage(words, await fetchImage(named), entrypoint);
  const opened = await openImage(words, named.text, entrypoint);
  return async () => opened;
}

async function runInContainer(
  asked: AskedContainerRun,
  options: RunOptions,
  image: ImageSource | undefined,
): Promise<number> {
  const { words, timeoutMs, container } = asked;
  const name = options.hostname ?? machineName(options);
  const { root, inUse, command, hostname } = await imageCommand(
    words,
    { ...options, ...(name === undefined ? {} : { hostname: name }), image: await image?.() },
    (opened, store, progress) => store.directoryOf(opened, progress),
  );
  using _ = inUse;
  // What the image says is data, which the grammar of options does not see.
  const { argv, env, cwd, user, makeCwd = false } = command;
  const config = { ...container, layers: [root], argv, hostname, env, cwd, makeCwd, user };
  sayWithoutKvm('with a KVM, the same command without --isolation container has a kernel of its own');
  return await runContainer(config, { ...options, timeoutMs });
}

async function runInMachine(
  asked: AskedMachineRun,
  options: RunOptions,
  source: ImageSource | undefined,
): Promise<number> {
  const { words, timeoutMs, sockets, ports } = asked;
  const inBackground = backgroundName() !== undefined;
  const tty = options.tty ?? (!inBackground && isOnTerminal());
  const typed: GuestCommand = {
    argv: words,
    env: { TERM: process.env['TERM'] ?? 'linux', ...environment(parseVariables(options.env ?? [])) },
    ...(options.workdir === undefined ? {} : { cwd: options.workdir, makeCwd: true }),
    tty,
    ...(tty ? { rows: process.stdout.rows, columns: process.stdout.columns } : {}),
  };
  // Before anything of the host is looked at; an image may add to it.
  checkSentCommand(typed);
  const config = withAgent(await completeMachine(asked.machine), options);
  const hostname = options.hostname ?? machineName(options);
  const named = { ...options, ...(hostname === undefined ? {} : { hostname }) };
  const image =
    source === undefined
      ? undefined
      : await imageCommand(words, { ...named, image: await source() }, machineRoot);
  using _inUse = image?.inUse;
  const command: GuestCommand = { ...typed, ...image?.command };
  checkSentCommand(command);
  const disk =
    asked.rootDiskBytes === undefined
      ? undefined
      : await (await import('../../image/root-disk.js')).openRootDisk({
          bytes: asked.rootDiskBytes,
          name: options.rm === true ? undefined : machineName(options),
          root: image?.root.identity ?? config.initrd ?? '',
        });
  using stopSignals = StopSignals.ofCommand(timeoutMs);
  try {
    const whole = withRootDisk(withRoot(config, image?.root), disk, options.template);
    const machine = await (options.template
      ? fromTemplate(whole, ports, disk, stopSignals)
      : booted(whole, stopSignals)
    ).finally(() => disk?.release());
    await using _ = machine;
    explainFullRoot(
      machine,
      `--root-disk ${disk === undefined ? '4G gives it more' : 'with more gives it another'}`,
    );
    if (sockets !== undefined) await serveSockets(machine, sockets);
    return await serveCommand(machine, {
      ...options,
      argv: command.argv,
      tty,
      stopSignals,
      command,
      writesBack: disk?.isKept,
      facts: { hostname: image?.hostname ?? hostname },
    });
  } catch (error) {
    if (stopSignals.exitCode === undefined) throw error;
    if (stopSignals.timedOut) explainTimeout(options.timeout);
    return stopSignals.exitCode;
  }
}

/** Adds the agent to a machine that other commands find, where its init is tsvm's. */
function withAgent(config: MachineConfig, options: RunOptions): MachineConfig {
  const hasOwnInit = options.initrd !== undefined;
  return machineName(options) === undefined || hasOwnInit ? config : { ...config, agent: true };
}

/** Adds the device of the root, the first of its kind, by which the guest finds it. */
function withRoot(config: MachineConfig, root: MachineRoot | undefined): MachineConfig {
  if (root === undefined) return config;
  const { cmdline = '', devices = [] } = config;
  return { ...config, cmdline: `${cmdline} ${root.parameters}`, devices: [root.device, ...devices] };
}

/** Adds the disk that takes what is written to the root, after all others, whose names in the guest it leaves alone. */
function withRootDisk(
  config: MachineConfig,
  disk: RootDisk | undefined,
  hasTemplate: boolean,
): MachineConfig {
  if (disk === undefined) return config;
  const { cmdline = '', devices = [] } = config;
  const parameter = `rootdisk=/dev/vd${String.fromCharCode(97 + diskCount(devices))}`;
  // A template only looks at how large its disk is.
  const device = hasTemplate ? blk({ path: disk.blank, direct: false }) : blk({ path: disk.path });
  return { ...config, cmdline: `${cmdline} ${parameter}`, devices: [...devices, device] };
}

const diskCount = (devices: readonly DeviceRequest[]): number =>
  devices.filter(({ kind }) => kind === 'blk').length;

async function serveSockets(machine: Machine, { path, cid }: VsockConfig): Promise<void> {
  if (cid !== undefined && cid !== machine.vsock?.cid) machine.vsock?.renumber(cid);
  if (path !== undefined) await machine.vsock?.bind(path);
}

async function fromTemplate(
  config: MachineConfig,
  ports: AskedMachineRun['ports'],
  disk: RootDisk | undefined,
  stopSignals: StopSignals,
): Promise<Machine> {
  let stopProgress = (): void => {};
  const machine = await machineFromTemplate(config, {
    signal: stopSignals.signal,
    ...(ports === undefined ? {} : { ports: pathsByName(ports) }),
    ...(disk === undefined ? {} : { ownDisks: { [diskCount(config.devices ?? []) - 1]: disk.path } }),
    onBoot(template) {
      process.stderr.write('tsvm: booting a template for this configuration, once\n');
      stopProgress = showBootProgress(template);
      stopSignals.watch(template);
    },
    onWait: () => process.stderr.write('tsvm: waiting for another process that boots this template\n'),
    onSaved({ directory, memoryBytes }) {
      stopProgress();
      process.stderr.write(`tsvm: saved in ${directory} (${formatBytes(memoryBytes)})\n`);
    },
  });
  stopSignals.watch(machine);
  return machine;
}

async function booted(config: MachineConfig, stopSignals: StopSignals): Promise<Machine> {
  return await bootToReady(config, {
    onBoot(machine) {
      stopSignals.watch(machine);
      showBootProgress(machine);
    },
  });
}
