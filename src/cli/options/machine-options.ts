/** The options by which a machine is described on the command line, and the machine that they describe. */
import type { Command } from 'commander';
import type { DeviceRequest } from '../../devices/registry.js';
import { TsvmError } from '../../errors.js';
import { cmdlineForRoot, DEFAULT_GUEST, findGuest, type Guest } from '../../guest/store.js';
import { checkMachine, lookAtDevices } from '../../machine/check.js';
import { MAX_CPUS, type MachineConfig } from '../../machine/config.js';
import { backgroundName } from '../background.js';
import { parseChoice, parseCount, parseMemory } from '../values.js';
import { addDeviceOptions, type DeviceOptions, deviceRequests } from './device-options.js';
import { cliGuest, guestOption } from './guest-option.js';
import { isOnTerminal } from './terminal-option.js';

export interface MachineOptions extends DeviceOptions {
  guest?: string;
  kernel?: string;
  initrd?: string;
  unpackInitrd: boolean;
  append?: string;
  cmdline?: string;
  memory?: string;
  cpus?: string;
  console: string;
  firmware?: string;
  entry: string;
  discovery?: string;
  profile: string;
}

/** Adds them. */
export function addMachineOptions(command: Command): Command {
  command
    .addOption(guestOption())
    .option('--kernel <file>', 'a bzImage or an ELF vmlinux')
    .option('--initrd <file>', 'initramfs; "none" for none')
    .option('--no-unpack-initrd', 'leave a compressed initramfs to the guest to unpack')
    .option('--append <string>', 'add to the kernel command line')
    .option(
      '--cmdline <string>',
      'replace the kernel command line (what the host, the devices and the console need is still added)',
    )
    .option('-m, --memory <size>', 'RAM: 256M, 2G (default 128M)')
    .option('--cpus <n>', `vCPUs, 1 to ${MAX_CPUS} (default 1)`);
  return addDeviceOptions(command)
    .option('--console <kind>', 'serial, virtio or none', 'serial')
    .option('--firmware <file>', 'start from a ROM: "builtin", or a file such as SeaBIOS')
    .option(
      '--entry <kind>',
      'auto (unpacked on the host, 64-bit entry), pvh, or bzimage (its own decompressor)',
      'auto',
    )
    .option(
      '--discovery <kind>',
      'how the guest finds its virtio devices: acpi or cmdline (default: as the guest needs)',
    )
    .option('--profile <name>', 'host profile: auto, none or pvm', 'auto');
}

/** Machine that a command line asks for. */
export interface AskedMachine {
  /** All that the options say. Its kernel is missing if that is to be the guest's that tsvm builds. */
  readonly config: MachineConfig;
  /** Devices whose files are looked at, if they are not those of `config`. */
  readonly named?: readonly DeviceRequest[];
  /** Name of the guest that was asked for. Default: as `findGuest()` chooses. */
  readonly guest?: string;
  /** Adds the guest that tsvm builds; undefined if the machine needs none of it. */
  readonly withGuest?: (guest: Guest) => MachineConfig;
}

/**
 * Finds the guest for a machine, when all else is known to be right: a guest takes minutes to build, and is no use to a command line that
 * is wrong, or to a host without KVM.
 *
 * @throws TsvmError of what is to be mended first: the configuration, a file that it names, this host, the guest.
 */
export async function completeMachine(asked: AskedMachine): Promise<MachineConfig> {
  const { config, named, guest, withGuest } = asked;
  if (withGuest !== undefined) {
    // What the command line names is there before the host is looked at.
    if (guest !== undefined && guest !== DEFAULT_GUEST) await findGuest(guest);
    await checkMachine(config, named);
    return withGuest(await cliGuest(guest));
  }
  // The rest is for createMachine, which has the same order.
  await lookAtDevices(named);
  return config;
}

/** Reads the options of a machine. @throws TsvmError `TSVM_USAGE` that names the one that is wrong. */
export function askedMachine(
  command: readonly string[],
  options: MachineOptions & { name?: string },
): AskedMachine & { readonly usesOurInit: boolean } {
  refuseEmptyCommand(command);
  const foreignFirmware = options.firmware !== undefined && options.firmware !== 'builtin';
  if (options.guest !== undefined && foreignFirmware)
    throw new TsvmError('TSVM_USAGE', '--guest: a firmware of one’s own starts no guest of ours', {
      hint: '--firmware builtin, or leave out --guest',
    });
  const needsGuest = options.kernel === undefined && !foreignFirmware;
  const usesOurInit = needsGuest && options.initrd === undefined;
  const named = options.initrd === 'none' ? undefined : options.initrd;
  const cmdline = (own: string): string =>
    [options.cmdline ?? own, options.append].filter((part) => part !== undefined && part !== '').join(' ');
  // A shell in the background has a terminal for whoever attaches to it.
  const inBackground = backgroundName() !== undefined;
  const tty = inBackground ? command.length === 0 : isOnTerminal();
  const entry = parseChoice('--entry', options.entry, ['auto', 'pvh', 'bzimage']);
  const discovery =
    options.discovery === undefined
      ? undefined
      : parseChoice('--discovery', options.discovery, ['acpi', 'cmdline']);
  const config: MachineConfig = {
    ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
    ...(named === undefined ? {} : { initrd: named }),
    unpackInitrd: options.unpackInitrd,
    cmdline: cmdline(DEFAULT_CMDLINE),
    ...(options.memory === undefined ? {} : { memoryBytes: parseMemory('--memory', options.memory) }),
    ...(options.cpus === undefined ? {} : { cpus: parseCount('--cpus', options.cpus, 1, MAX_CPUS) }),
    devices: deviceRequests(options),
    console: parseChoice('--console', options.console, ['serial', 'virtio', 'none']),
    // Whoever has a name can be asked to stop.
    ...(usesOurInit && (inBackground || options.name !== undefined) ? { stopPort: true } : {}),
    ...(usesOurInit || command.length > 0
      ? {
          command: {
            argv: command,
            tty,
            ...(tty && !inBackground ? { rows: process.stdout.rows, columns: process.stdout.columns } : {}),
            env: { TERM: process.env['TERM'] ?? 'linux' },
          },
        }
      : {}),
    entry,
    discovery: discovery ?? 'acpi',
    ...(options.firmware === undefined ? {} : { firmware: options.firmware }),
    profile: options.profile,
  };
  if (!needsGuest) return { config, usesOurInit };
  const withGuest = (guest: Guest): MachineConfig => ({
    ...config,
    kernel: entry === 'bzimage' ? bzImageOf(guest) : guest.kernel,
    ...(usesOurInit ? { initrd: guest.initrd } : {}),
    cmdline: cmdline(guestCmdline(guest, options.append)),
    discovery: discovery ?? guest.discovery,
  });
  return { config, usesOurInit, ...guestNamed(options), withGuest };
}

/** Field `guest` of what is asked for. */
export const guestNamed = ({ guest }: { guest?: string }): Pick<AskedMachine, 'guest'> =>
  guest === undefined ? {} : { guest };

function bzImageOf({ build }: Guest): string {
  if (build.bzImage !== undefined) return build.bzImage;
  throw new TsvmError('TSVM_USAGE', `the guest '${build.name}' has no bzImage`, {
    hint: 'build it: tsvm guest build; or name a bzImage: --kernel FILE',
  });
}

function guestCmdline(guest: Guest, append = ''): string {
  return /(^| )root=/.test(append) ? cmdlineForRoot(guest) : guest.cmdline;
}

/** Refuses a first word that names no program. @throws TsvmError `TSVM_USAGE` */
export function refuseEmptyCommand([first]: readonly string[]): void {
  if (first !== '') return;
  throw new TsvmError('TSVM_USAGE', 'there is no command: its first word is empty', {
    hint: 'give the name of a program after --, or check the variable that it was to come from',
  });
}

/** Command line of kernels that are not ours. A panic and a reboot end the machine at once. */
const DEFAULT_CMDLINE = 'reboot=k panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd';
