/** What a machine is made of, as the library's users say it, and the checks that need no host. */
import { checkCmdlineText } from '../boot/cmdline.js';
import type { KernelEntry } from '../boot/kernel-image.js';
import { isPath } from '../devices/config-fields.js';
import type { DeviceRequest } from '../devices/registry.js';
import { vsock } from '../devices/vsock/kind.js';
import { TsvmError } from '../errors.js';
import { COMMAND_FIELDS, checkCommand, type GuestCommand } from '../guest/command.js';
import type { GuestBuild } from '../guest/store.js';
import { VIRTIO_GSIS } from '../memory/layout.js';
import {
  type Field,
  type Fields,
  FLAG,
  isListOf,
  isRecord,
  isText,
  isWhole,
  objectSchema,
  oneOf,
  optional,
  requireFields,
} from '../util/fields.js';
import { formatBytes, MIB, PAGE_BYTES } from '../util/units.js';

export const MIN_MEMORY_BYTES = 2 * MIB;
/** The guest's physical addresses must stay below what every x86-64 CPU can reach (2^40), with room for the hole. */
export const MAX_MEMORY_BYTES = 512 * 1024 * MIB;
export const DEFAULT_MEMORY_BYTES = 128 * MIB;
/** One byte holds an APIC id in the MP table and in xAPIC mode; 64 is what is tested. */
export const MAX_CPUS = 64;

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
   * console is, unless it has a `console=` of its own, or `namesConsole` is false.
   */
  readonly cmdline?: string;
  /** Tell the kernel where the console is. Default true. */
  readonly namesConsole?: boolean;
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
   * The agent in the guest (`machine.dialAgent`), by which any number of commands run there. Default false. With it the machine has the
   * channel too, and a vsock, if there is none among its devices. Its init must be tsvm's.
   */
  readonly agent?: boolean;
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

const PATH: Field = ['a path', isPath, { type: 'string' }];

/** Fields of a configuration that are data, and that its spec has likewise. */
export const DATA_FIELDS = {
  kernel: optional(PATH),
  initrd: optional(PATH),
  unpackInitrd: optional(FLAG),
  cmdline: optional(['a string', isText, { type: 'string' }]),
  namesConsole: optional(FLAG),
  memoryBytes: optional(['a whole number of bytes', isWhole(), { type: 'integer' }]),
  cpus: optional(['a whole number', isWhole(), { type: 'integer' }]),
  console: optional(oneOf('serial', 'virtio', 'none')),
  command: optional([
    'an object with argv, a list of strings',
    isRecord, // its fields are checkCommand's
    objectSchema(COMMAND_FIELDS),
  ]),
  entry: optional(oneOf('auto', 'pvh', 'bzimage')),
  discovery: optional(oneOf('acpi', 'cmdline')),
  firmware: optional(['"builtin" or a path', isPath, { type: 'string' }]),
  profile: optional(['a name', (value) => isText(value) && value !== '', { type: 'string' }]),
} as const satisfies Partial<Fields<MachineConfig>>;

const FIELDS: Fields<MachineConfig> = {
  ...DATA_FIELDS,
  devices: optional(['a list of device requests', isListOf(isRecord)]),
  channel: optional(FLAG),
  agent: optional(FLAG),
  stopPort: optional(FLAG),
  build: optional(['what findGuest() says of a guest', isRecord]),
};

/** Adds what a configuration implies: the agent needs the channel and a vsock, which is the last device. */
export function wholeConfig(config: MachineConfig): MachineConfig {
  if (config.agent !== true) return config;
  const { devices = [] } = config;
  const hasVsock = devices.some(({ kind }) => kind === 'vsock');
  return { ...config, channel: true, devices: hasVsock ? devices : [...devices, vsock()] };
}

/**
 * Checks a configuration as far as that is possible without the host.
 *
 * @returns it with what it implies
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function checkConfig(given: MachineConfig, host: { totalMemoryBytes: number }): MachineConfig {
  requireFields(given, FIELDS, "a machine's configuration");
  const config = wholeConfig(given);
  checkBounds(config, host.totalMemoryBytes);
  if (config.kernel === undefined && (config.firmware === undefined || config.firmware === 'builtin')) {
    throw new TsvmError('TSVM_CONFIG', 'no kernel is given', {
      hint: "give a bzImage or vmlinux: `kernel: 'FILE'`",
    });
  }
  return config;
}

/** Ways to the guest's init: the channel, the channel and the agent, the stop port, or none. */
export const GUEST_WAYS = ['channel', 'agent', 'stop-port', 'none'] as const;
export type GuestWay = (typeof GUEST_WAYS)[number];

/** @throws TsvmError `TSVM_CONFIG` for two at once. */
export function guestOf({ channel, agent, stopPort }: MachineConfig): GuestWay {
  if (channel !== true && agent !== true) return stopPort === true ? 'stop-port' : 'none';
  if (stopPort !== true) return agent === true ? 'agent' : 'channel';
  throw new TsvmError('TSVM_CONFIG', 'stopPort: a machine with a channel is asked over that', {
    hint: 'leave one of the two out',
  });
}

/**
 * Checks what a machine may have of everything, its guest aside: that of a saved machine is in its memory.
 *
 * @param totalMemoryBytes - memory of the host; without a limit for a machine that is not made here
 * @throws TsvmError `TSVM_CONFIG`, naming the field.
 */
export function checkBounds(config: MachineConfig, totalMemoryBytes = Number.POSITIVE_INFINITY): void {
  const memoryBytes = config.memoryBytes ?? DEFAULT_MEMORY_BYTES;
  if (memoryBytes < MIN_MEMORY_BYTES) {
    throw new TsvmError(
      'TSVM_CONFIG',
      `memoryBytes: ${formatBytes(memoryBytes)} is too little for a machine`,
      {
        hint: `give it at least ${formatBytes(MIN_MEMORY_BYTES)}, and a Linux guest 32 MiB: \`memoryBytes: 128 * 2 ** 20\``,
      },
    );
  }
  if (memoryBytes % PAGE_BYTES !== 0) {
    throw new TsvmError('TSVM_CONFIG', `memoryBytes: ${memoryBytes} bytes is not a multiple of 4 KiB`, {
      hint: 'for example: `memoryBytes: 128 * 2 ** 20`',
    });
  }
  if (memoryBytes > MAX_MEMORY_BYTES) {
    throw new TsvmError(
      'TSVM_CONFIG',
      `memoryBytes: ${formatBytes(memoryBytes)} is more than a machine can have (${formatBytes(MAX_MEMORY_BYTES)})`,
      {
        hint: 'give the machine less: `memoryBytes: 2 ** 30`',
      },
    );
  }
  if (memoryBytes > totalMemoryBytes) {
    throw new TsvmError(
      'TSVM_CONFIG',
      `memoryBytes: ${formatBytes(memoryBytes)} is more than this host has for it (${formatBytes(totalMemoryBytes)})`,
      {
        hint: 'give the machine less: `memoryBytes: 2 ** 30`',
      },
    );
  }
  const guest = guestOf(config);
  if (config.command !== undefined) checkCommand(config.command);
  if ((guest === 'channel' || guest === 'agent') && config.command !== undefined) {
    throw new TsvmError('TSVM_CONFIG', 'command: a machine with a channel gets its command over it', {
      hint: 'call machine.channel.send()',
    });
  }
  checkCmdlineText(config.cmdline ?? '');
  const cpus = config.cpus ?? 1;
  if (cpus < 1 || cpus > MAX_CPUS) {
    throw new TsvmError('TSVM_CONFIG', `cpus: ${cpus} is not from 1 to ${MAX_CPUS}`, {
      hint: 'for example: `cpus: 2`',
    });
  }
  // Before the first of them is opened: each may be a file, a socket, a process of the host's.
  const ports = guest !== 'none' || config.console === 'virtio' ? 1 : 0;
  if ((config.devices ?? []).length + ports > VIRTIO_GSIS.length) {
    throw new TsvmError(
      'TSVM_CONFIG',
      `devices: more than ${VIRTIO_GSIS.length} virtio devices in one machine`,
      { hint: 'leave out some of the devices; one `virtioConsole({ ports })` serves many ports' },
    );
  }
}
