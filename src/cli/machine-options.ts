/** The options by which a machine is described on the command line, and the machine that they describe. */
import type { Command } from 'commander';
import { TsvmError } from '../errors.js';
import { cmdlineForRoot, type Guest } from '../host/guest-store.js';
import { MAX_CPUS, type MachineConfig } from '../machine/config.js';
import { backgroundName } from './background.js';
import { addDeviceOptions, type DeviceOptions, deviceRequests } from './device-options.js';
import { cliGuest, guestOption } from './guest-option.js';
import { parseChoice, parseCount, parseSize } from './values.js';

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
    .option('--memory <size>', 'RAM: 256M, 2G (default 128M)')
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

/** @throws TsvmError for options that make no sense, or a guest that is not built. */
export async function machineConfig(
  command: readonly string[],
  options: MachineOptions & { name?: string },
): Promise<{ config: MachineConfig; usesOurInit: boolean }> {
  const foreignFirmware = options.firmware !== undefined && options.firmware !== 'builtin';
  if (options.guest !== undefined && foreignFirmware)
    throw new TsvmError('TSVM_USAGE', '--guest: a firmware of one’s own starts no guest of ours', {
      hint: '--firmware builtin, or leave out --guest',
    });
  const guest = options.kernel === undefined && !foreignFirmware ? await cliGuest(options.guest) : undefined;
  const usesOurInit = guest !== undefined && options.initrd === undefined;
  const initrd = options.initrd === 'none' ? undefined : (options.initrd ?? guest?.initrd);
  if (options.entry === 'bzimage' && guest !== undefined && guest.build.bzImage === undefined) {
    throw new TsvmError('TSVM_USAGE', `the guest '${guest.build.name}' has no bzImage`, {
      hint: 'build it: tsvm guest build; or name a bzImage: --kernel FILE',
    });
  }
  const kernel = options.kernel ?? (options.entry === 'bzimage' ? guest?.build.bzImage : guest?.kernel);
  const cmdline = [options.cmdline ?? guestCmdline(guest, options.append) ?? DEFAULT_CMDLINE, options.append]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
  // A shell in the background has a terminal for whoever attaches to it.
  const apart = backgroundName() !== undefined;
  const tty = apart ? command.length === 0 : process.stdin.isTTY === true && process.stdout.isTTY === true;
  const config: MachineConfig = {
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    unpackInitrd: options.unpackInitrd,
    cmdline,
    ...(options.memory === undefined ? {} : { memoryBytes: parseSize('--memory', options.memory) }),
    ...(options.cpus === undefined ? {} : { cpus: parseCount('--cpus', options.cpus, 1, MAX_CPUS) }),
    devices: deviceRequests(options),
    console: parseChoice('--console', options.console, ['serial', 'virtio', 'none']),
    // Whoever has a name can be asked to stop.
    ...(usesOurInit && (apart || options.name !== undefined) ? { stopPort: true } : {}),
    ...(usesOurInit || command.length > 0
      ? {
          command: {
            argv: command,
            tty,
            ...(tty && !apart ? { rows: process.stdout.rows, columns: process.stdout.columns } : {}),
            env: { TERM: process.env['TERM'] ?? 'linux' },
          },
        }
      : {}),
    entry: parseChoice('--entry', options.entry, ['auto', 'pvh', 'bzimage']),
    discovery:
      options.discovery === undefined
        ? (guest?.discovery ?? 'acpi')
        : parseChoice('--discovery', options.discovery, ['acpi', 'cmdline']),
    ...(options.firmware === undefined ? {} : { firmware: options.firmware }),
    profile: options.profile,
  };
  return { config, usesOurInit };
}

function guestCmdline(guest: Guest | undefined, append = ''): string | undefined {
  return guest !== undefined && /(^| )root=/.test(append) ? cmdlineForRoot(guest) : guest?.cmdline;
}

/** For kernels that are not ours. A panic and a reboot end the machine at once. */
const DEFAULT_CMDLINE = 'reboot=k panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd';
