/** Brings what the operator named into the machine: kernel, initramfs, command line, firmware. */
import { joinCmdline } from '../boot/cmdline.js';
import { commandSegment } from '../boot/cpio.js';
import { builtinFirmware, type FirmwareImage, loadFirmware } from '../boot/firmware.js';
import { checkKernelFile } from '../boot/kernel-image.js';
import { type DeviceRow, loadLinux, writeResetHandover } from '../boot/load.js';
import { MAX_UNPACKED_BYTES, unpackInitrd } from '../boot/unpack-initrd.js';
import { TsvmError } from '../errors.js';
import { InputFile, readInputFile } from '../host/files.js';
import { runXz } from '../host/program-filter.js';
import type { HostProfile } from '../kvm/profiles/profile.js';
import type { Vm } from '../kvm/vm.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import { ID_RANGE, isId } from '../util/ids.js';
import { warnOperator } from '../util/operator-warning.js';
import { GIB, MIB } from '../util/units.js';
import { isVariableName } from '../util/variable-name.js';
import { DEFAULT_MEMORY_BYTES, type GuestCommand, type MachineConfig } from './config.js';
import { consoleParameter, deviceParameters } from './device-parameters.js';
import { setEntryState } from './entry.js';

const MAX_KERNEL_BYTES = 512 * MIB;
const MAX_INITRD_BYTES = 2 * GIB - 1;
const MAX_FIRMWARE_BYTES = 16 * MIB;

/** What the configuration names, before anything of the machine exists. */
export interface BootFiles {
  /** Open, to be read straight into guest memory. */
  readonly kernel: InputFile | undefined;
  /** The initramfs in segments, unpacked as asked. */
  readonly initrd: readonly Uint8Array[];
  readonly firmware: FirmwareImage | undefined;
}

/**
 * Reads and unpacks every file that the configuration names, and opens the kernel, which the caller closes; nothing is
 * half-done if one is bad.
 */
export async function readBootFiles(config: MachineConfig): Promise<BootFiles> {
  const kernel =
    config.kernel === undefined
      ? undefined
      : await InputFile.open('kernel', config.kernel, {
          code: 'TSVM_KERNEL_IMAGE',
          maxBytes: MAX_KERNEL_BYTES,
          hint: 'give a bzImage or vmlinux: --kernel FILE',
        });
  try {
    const others = await readOtherFiles(config);
    if (kernel !== undefined) await named(`kernel ${config.kernel}`, () => checkKernelFile(kernel));
    return { kernel, ...others };
  } catch (error) {
    await kernel?.close();
    throw error;
  }
}

async function readOtherFiles(config: MachineConfig): Promise<Omit<BootFiles, 'kernel'>> {
  const [initrd, rom] = await Promise.all([
    config.initrd === undefined
      ? undefined
      : readInputFile('initramfs', config.initrd, { code: 'TSVM_INITRD', maxBytes: MAX_INITRD_BYTES }),
    config.firmware === undefined || config.firmware === 'builtin'
      ? undefined
      : readInputFile('firmware', config.firmware, { code: 'TSVM_FIRMWARE', maxBytes: MAX_FIRMWARE_BYTES }),
  ]);
  const segments: Uint8Array[] = [];
  if (initrd !== undefined)
    segments.push(...(config.unpackInitrd === false ? [initrd] : await unpackedInitrd(initrd, config)));
  if (config.command !== undefined) {
    const { argv } = config.command;
    segments.push(commandSegment({ options: commandOptions(config.command), argv }));
  }
  const firmware =
    rom !== undefined ? loadFirmware(rom) : config.firmware === 'builtin' ? builtinFirmware() : undefined;
  return { initrd: segments, firmware };
}

/** Runs a check of what a file holds; its error names the file. */
async function named<T>(what: string, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    throw new TsvmError(error.code, `${what}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/** Unpacks an initramfs, no more of it than the machine has memory for: that takes time of all machines of the process. */
async function unpackedInitrd(initrd: Uint8Array, config: MachineConfig): Promise<Uint8Array[]> {
  const mostBytes = Math.min(config.memoryBytes ?? DEFAULT_MEMORY_BYTES, MAX_UNPACKED_BYTES);
  return await named(`initramfs ${config.initrd}`, () =>
    unpackInitrd(initrd, runXz, mostBytes, warnOperator),
  );
}

/**
 * The guest init's options, as guests/README.md lists them.
 *
 * @throws TsvmError `TSVM_CONFIG` for ids that Linux does not have, and for a variable whose name is none.
 */
export function commandOptions(command: GuestCommand): string[] {
  const options = [`tty=${command.tty === false ? 0 : 1}`];
  if (command.rows !== undefined) options.push(`rows=${command.rows}`);
  if (command.columns !== undefined) options.push(`cols=${command.columns}`);
  if (command.cwd !== undefined) options.push(`cwd=${command.cwd}`);
  if (command.user !== undefined) {
    const { uid, gid } = command.user;
    if (!isId(uid) || !isId(gid))
      throw new TsvmError('TSVM_CONFIG', `command.user: ${uid}:${gid}: each must be ${ID_RANGE}`);
    options.push(`uid=${uid}`, `gid=${gid}`);
  }
  for (const [name, value] of Object.entries(command.env ?? {})) {
    if (!isVariableName(name))
      throw new TsvmError('TSVM_CONFIG', `command.env: ${JSON.stringify(name)} is not a name`);
    options.push(`env=${name}=${value}`);
  }
  return options;
}

export interface GuestParts {
  readonly config: MachineConfig;
  readonly files: BootFiles;
  readonly memory: GuestMemory;
  readonly vm: Vm;
  readonly profile: HostProfile;
  readonly slots: readonly DeviceRow[];
  /** Whether the kernel is told where the console is, if its command line does not say it. */
  readonly namesConsole: boolean;
}

/** Loads the guest and sets the boot processor's registers. Returns the kernel's command line. */
export async function loadGuest(parts: GuestParts): Promise<string> {
  const { config, files, memory, vm, profile, slots } = parts;
  const { firmware, kernel } = files;
  if (firmware?.lowCopy !== undefined) memory.write(firmware.lowCopy.addr, firmware.lowCopy.bytes);
  if (kernel === undefined) return '';
  const discovery = config.discovery ?? 'acpi';
  const cmdline = joinCmdline([
    config.cmdline,
    parts.namesConsole ? consoleParameter(config) : undefined,
    ...profile.kernelParameters,
    ...deviceParameters(config),
    ...(discovery === 'cmdline' ? slots.map(slotParameter) : []),
  ]);
  const { entry } = await loadLinux(memory, {
    image: kernel,
    initrd: files.initrd,
    cmdline,
    cpus: config.cpus ?? 1,
    devices: slots,
    acpi: discovery === 'acpi',
    mptable: true,
    entry: config.entry ?? 'auto',
    xz: runXz,
  });
  // A vCPU that nobody touches starts at the reset vector.
  if (firmware === undefined) {
    const boot = vm.vcpus[0];
    if (boot !== undefined) setEntryState(boot, entry);
  } else {
    writeResetHandover(memory, entry);
  }
  return cmdline;
}

/** Documentation/admin-guide/kernel-parameters.txt, virtio_mmio.device=. */
function slotParameter(row: DeviceRow): string {
  return `virtio_mmio.device=${row.length}@0x${row.addr.toString(16)}:${row.gsi}`;
}
