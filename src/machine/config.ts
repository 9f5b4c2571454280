/** What a machine is made of, as the library's users say it, and the checks that need no host. */
import { checkCmdlineText } from '../boot/cmdline.js';
import type { KernelEntry } from '../boot/kernel-image.js';
import type { DeviceRequest } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import type { GuestBuild } from '../host/guest-store.js';
import { VIRTIO_GSIS } from '../memory/layout.js';
import { isId } from '../util/ids.js';
import { formatBytes, MIB, PAGE_BYTES } from '../util/units.js';

export const MIN_MEMORY_BYTES = 2 * MIB;
/** The guest's physical addresses must stay below what every x86-64 CPU can reach (2^40), with room for the hole. */
export const MAX_MEMORY_BYTES = 512 * 1024 * MIB;
export const DEFAULT_MEMORY_BYTES = 128 * MIB;
/** One byte holds an APIC id in the MP table and in xAPIC mode; 64 is what is tested. */
export const MAX_CPUS = 64;

/** A program that the guest's init runs instead of a shell. */
export interface GuestCommand {
  /** Program and arguments. Empty: an interactive shell. */
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Ids in the guest. Default: 0, with the groups of init. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Give the program a terminal with echo and line editing (true), or byte-exact output (false). Default true. */
  readonly tty?: boolean;
  readonly rows?: number;
  readonly columns?: number;
}

/** How the guest learns of its virtio devices: from the DSDT, or from `virtio_mmio.device=` parameters. */
export type DeviceDiscovery = 'acpi' | 'cmdline';

export interface MachineConfig {
  /** A bzImage or an ELF vmlinux: a path. Not needed with a firmware file of one's own. */
  readonly kernel?: string;
  readonly initrd?: string;
  /** Unpack a compressed initramfs on the host (default), or leave it to the guest. */
  readonly unpackInitrd?: boolean;
  /**
   * The kernel's command line. The host profile's parameters and the devices' are added to it, and `console=` for where the
   * console is, unless it has a `console=` of its own.
   */
  readonly cmdline?: string;
  /** Bytes of RAM: a multiple of 4 KiB, from 2 MiB up. Default 128 MiB. */
  readonly memoryBytes?: number;
  /** vCPUs, 1 to 64. Default 1. */
  readonly cpus?: number;
  /** In the order of their slots. */
  readonly devices?: readonly DeviceRequest[];
  /** Where the guest's console is. `none` leaves the serial port out as well. Default `serial`. */
  readonly console?: 'serial' | 'virtio' | 'none';
  readonly command?: GuestCommand;
  /** A way to hand the guest's init a command while it runs, and its streams apart (`machine.channel`). Default false. */
  readonly channel?: boolean;
  /**
   * A port by which `machine.requestStop` reaches the guest's init, which listens there where it is tsvm's. Default false; with a
   * channel there is no need of it.
   */
  readonly stopPort?: boolean;
  readonly entry?: KernelEntry;
  readonly discovery?: DeviceDiscovery;
  /** `builtin`: the reset-vector ROM starts the kernel. A path: a foreign ROM, and no kernel is loaded. */
  readonly firmware?: string;
  /** Name of a host profile, or `auto`. */
  readonly profile?: string;
  /** Build of the guest, where `findGuest()` found it. For people: the machine is the same without it. */
  readonly build?: GuestBuild;
}

type Check = (value: unknown) => boolean;
const isText: Check = (value) => typeof value === 'string' && value !== '';
const isWhole: Check = (value) => Number.isSafeInteger(value);
const isBoolean: Check = (value) => typeof value === 'boolean';
const isRecord: Check = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isListOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const isOneOf =
  (...choices: readonly string[]): Check =>
  (value) =>
    choices.some((choice) => choice === value);

/** What a field must be, in words and as a check. For callers in plain JavaScript; a schema library costs 60 ms to load. */
const FIELDS: Readonly<Record<keyof MachineConfig, readonly [expected: string, check: Check]>> = {
  kernel: ['a path', isText],
  initrd: ['a path', isText],
  unpackInitrd: ['true or false', isBoolean],
  cmdline: ['a string', (value) => typeof value === 'string'],
  memoryBytes: ['a whole number of bytes', isWhole],
  cpus: ['a whole number', isWhole],
  devices: ['a list of device requests', isListOf(isRecord)],
  console: ['serial, virtio or none', isOneOf('serial', 'virtio', 'none')],
  command: ['an object with argv, a list of strings', isCommand],
  channel: ['true or false', isBoolean],
  stopPort: ['true or false', isBoolean],
  entry: ['auto, pvh or bzimage', isOneOf('auto', 'pvh', 'bzimage')],
  discovery: ['acpi or cmdline', isOneOf('acpi', 'cmdline')],
  firmware: ['"builtin" or a path', isText],
  profile: ['a name', isText],
  build: ['what findGuest() says of a guest', isRecord],
};

function isCommand(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { argv, env, user } = value as { argv?: unknown; env?: unknown; user?: unknown };
  const strings = isListOf((item) => typeof item === 'string');
  const ids = isListOf(isId);
  return (
    strings(argv) &&
    (env === undefined || (isRecord(env) && strings(Object.values(env as object)))) &&
    (user === undefined ||
      (isRecord(user) && ids([(user as { uid?: unknown }).uid, (user as { gid?: unknown }).gid])))
  );
}

function checkFields(config: MachineConfig): void {
  for (const [name, value] of Object.entries(config)) {
    const field = Object.hasOwn(FIELDS, name) ? FIELDS[name as keyof MachineConfig] : undefined;
    if (field === undefined)
      throw new TsvmError('TSVM_CONFIG', `${name}: there is no such field in a machine's configuration`);
    if (value !== undefined && !field[1](value))
      throw new TsvmError('TSVM_CONFIG', `${name}: it must be ${field[0]}`);
  }
}

/**
 * Checks a configuration as far as that is possible without the host.
 *
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function checkConfig(config: MachineConfig, host: { totalMemoryBytes: number }): void {
  checkFields(config);
  const memoryBytes = config.memoryBytes ?? DEFAULT_MEMORY_BYTES;
  if (memoryBytes < MIN_MEMORY_BYTES) {
    throw new TsvmError('TSVM_CONFIG', `memory: ${formatBytes(memoryBytes)} is too little for a machine`, {
      hint: `give it at least ${formatBytes(MIN_MEMORY_BYTES)}, and a Linux guest 32 MiB: --memory 128M`,
    });
  }
  if (memoryBytes % PAGE_BYTES !== 0) {
    throw new TsvmError('TSVM_CONFIG', `memory: ${memoryBytes} bytes is not a multiple of 4 KiB`, {
      hint: 'for example: --memory 128M',
    });
  }
  if (memoryBytes > Math.min(host.totalMemoryBytes, MAX_MEMORY_BYTES)) {
    throw new TsvmError(
      'TSVM_CONFIG',
      `memory: ${formatBytes(memoryBytes)} is more than this host has for it (${formatBytes(host.totalMemoryBytes)})`,
      {
        hint: 'give the machine less: --memory 1G',
      },
    );
  }
  if (config.channel === true && config.command !== undefined) {
    throw new TsvmError('TSVM_CONFIG', 'command: a machine with a channel gets its command over it', {
      hint: 'call machine.channel.send()',
    });
  }
  if (config.channel === true && config.stopPort === true) {
    throw new TsvmError('TSVM_CONFIG', 'stopPort: a machine with a channel is asked over that', {
      hint: 'leave one of the two out',
    });
  }
  checkCmdlineText(config.cmdline ?? '');
  const cpus = config.cpus ?? 1;
  if (cpus < 1 || cpus > MAX_CPUS) {
    throw new TsvmError('TSVM_CONFIG', `cpus: ${cpus} is not from 1 to ${MAX_CPUS}`, {
      hint: 'for example: --cpus 2',
    });
  }
  // Before the first of them is opened: each may be a file, a socket, a process of the host's.
  const ports = config.channel === true || config.stopPort === true || config.console === 'virtio' ? 1 : 0;
  if ((config.devices ?? []).length + ports > VIRTIO_GSIS.length) {
    throw new TsvmError(
      'TSVM_CONFIG',
      `devices: more than ${VIRTIO_GSIS.length} virtio devices in one machine`,
      { hint: 'leave out some of the devices; one --ports serves many ports' },
    );
  }
  if (config.kernel === undefined && (config.firmware === undefined || config.firmware === 'builtin')) {
    throw new TsvmError('TSVM_CONFIG', 'no kernel is given', {
      hint: 'give a bzImage or vmlinux: --kernel FILE',
    });
  }
}
