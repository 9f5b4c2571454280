/** `tsvm boot`: a machine in the foreground. */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { type DeviceRequest, deviceKinds } from '../../devices/registry.js';
import { TsvmError } from '../../errors.js';
import { describeFileError } from '../../host/files.js';
import { findGuest } from '../../host/guest-store.js';
import { ESCAPE_HELP } from '../../host/terminal.js';
import { MAX_CPUS, type MachineConfig } from '../../machine/config.js';
import { createMachine } from '../../machine/create.js';
import type { Machine, MachineEnd } from '../../machine/machine.js';
import { showBootProgress } from '../boot-progress.js';
import { attachConsole } from '../console.js';
import { EXIT_CODES, exitCodeOf } from '../exit-codes.js';
import { parseChoice, parseCount, parseDuration, parseSize } from '../values.js';

const EXAMPLES = `
Examples:
  tsvm boot                                      the default guest, to a shell
  tsvm boot -- cat /proc/cpuinfo                 run one command; its exit status is tsvm's
  tsvm boot --memory 1G --cpus 4 -- make -j4
  tsvm boot --disk data.img --disk tools.img,ro  /dev/vda and /dev/vdb
  tsvm boot --kernel /boot/vmlinuz --initrd initrd.img --append 'quiet'
  tsvm boot --timeout 60s --timeline boot.json -- true

Exit status: the guest command's own; 0 after a power-off; 2 bad usage or input; ${EXIT_CODES.guestPanic} guest kernel panic;
${EXIT_CODES.tripleFault} triple fault; ${EXIT_CODES.guestReset} guest asked for a reset (unless --reboot); ${EXIT_CODES.timeout} timeout; ${EXIT_CODES.hostFailure} host or KVM failure;
${EXIT_CODES.interrupted} ended by Ctrl-A x or SIGINT; ${EXIT_CODES.terminated} by SIGTERM.

On a terminal: ${ESCAPE_HELP.split('\r\n').join('; ')}.`;

interface BootOptions {
  kernel?: string;
  initrd?: string;
  unpackInitrd: boolean;
  append?: string;
  cmdline?: string;
  memory?: string;
  cpus?: string;
  disk: string[];
  rng?: boolean;
  console: string;
  firmware?: string;
  entry: string;
  discovery?: string;
  profile: string;
  timeout?: string;
  timeline?: string;
  reboot?: boolean;
}

export function bootCommand(): Command {
  const collect = (value: string, previous: string[]): string[] => [...previous, value];
  return new Command('boot')
    .summary('boot a machine in the foreground')
    .description(
      'Boot a machine and give it this terminal. Without --kernel, the default guest that `tsvm guest build` made.',
    )
    .argument('[command...]', 'run by the guest’s init instead of a shell (after --)')
    .option('--kernel <file>', 'a bzImage or an ELF vmlinux')
    .option('--initrd <file>', 'initramfs; "none" for none')
    .option('--no-unpack-initrd', 'leave a compressed initramfs to the guest to unpack')
    .option('--append <string>', 'add to the kernel command line')
    .option(
      '--cmdline <string>',
      'replace the kernel command line (what the host and devices need is still added)',
    )
    .option('--memory <size>', 'RAM: 256M, 2G (default 128M)')
    .option('--cpus <n>', `vCPUs, 1 to ${MAX_CPUS} (default 1)`)
    .option(
      '--disk <path[,ro][,id=name]>',
      `${deviceKinds['blk']?.summary ?? 'a disk'}; repeatable`,
      collect,
      [],
    )
    .option('--rng', deviceKinds['rng']?.summary ?? 'entropy')
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
    .option('--profile <name>', 'host profile: auto, none or pvm', 'auto')
    .option('--timeout <duration>', `end the machine after 60s, 500ms, 2m; exit status ${EXIT_CODES.timeout}`)
    .option('--timeline <file>', 'write phases, exits and their cost as JSON')
    .option('--reboot', 'start again when the guest asks for a reset')
    .addHelpText('after', EXAMPLES)
    .action(async (command: string[], options: BootOptions) => {
      process.exitCode = await boot(command, options);
    });
}

async function boot(command: readonly string[], options: BootOptions): Promise<number> {
  const timeoutMs = options.timeout === undefined ? undefined : parseDuration('--timeout', options.timeout);
  const { config, usesOurInit } = await machineConfig(command, options);
  const deadline = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  for (;;) {
    const { end, exitCode } = await runOnce(config, usesOurInit, deadline, options);
    if (end.kind !== 'reset' || options.reboot !== true) return exitCode;
  }
}

async function machineConfig(
  command: readonly string[],
  options: BootOptions,
): Promise<{ config: MachineConfig; usesOurInit: boolean }> {
  const foreignFirmware = options.firmware !== undefined && options.firmware !== 'builtin';
  const guest = options.kernel === undefined && !foreignFirmware ? await findGuest() : undefined;
  const devices: DeviceRequest[] = options.disk.map((text) => request('blk', text));
  if (options.rng === true) devices.push(request('rng', ''));
  const usesOurInit = guest !== undefined && options.initrd === undefined;
  const initrd = options.initrd === 'none' ? undefined : (options.initrd ?? guest?.initramfs);
  const kernel = options.kernel ?? (options.entry === 'bzimage' ? guest?.bzImage : guest?.kernel);
  const consoleKind = parseChoice('--console', options.console, ['serial', 'virtio', 'none']);
  const cmdline = [
    options.cmdline ?? guest?.cmdline ?? DEFAULT_CMDLINE,
    consoleParameter(options, consoleKind),
    options.append,
  ]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
  const tty = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const config: MachineConfig = {
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    unpackInitrd: options.unpackInitrd,
    cmdline,
    ...(options.memory === undefined ? {} : { memoryBytes: parseSize('--memory', options.memory) }),
    ...(options.cpus === undefined ? {} : { cpus: parseCount('--cpus', options.cpus, 1, MAX_CPUS) }),
    devices,
    console: consoleKind,
    ...(usesOurInit || command.length > 0
      ? {
          command: {
            argv: command,
            tty,
            ...(tty ? { rows: process.stdout.rows, columns: process.stdout.columns } : {}),
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

/** For kernels that are not ours. A panic and a reboot end the machine at once. */
const DEFAULT_CMDLINE = 'reboot=k panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd';

function consoleParameter(options: BootOptions, kind: 'serial' | 'virtio' | 'none'): string | undefined {
  if (options.cmdline !== undefined) return undefined;
  return { serial: 'console=ttyS0', virtio: 'console=hvc0', none: undefined }[kind];
}

function request(kind: string, text: string): DeviceRequest {
  const row = deviceKinds[kind];
  if (row === undefined) throw new TsvmError('TSVM_USAGE', `there is no device kind '${kind}'`);
  return row.fromCli(text);
}

async function runOnce(
  config: MachineConfig,
  usesOurInit: boolean,
  deadline: number | undefined,
  options: BootOptions,
): Promise<{ end: MachineEnd; exitCode: number }> {
  await using machine = await createMachine(config);
  // What is typed before the guest's init has set up its console would be lost or echoed.
  const stopProgress = showBootProgress(machine);
  const detach = attachConsole(machine, { waitForCommand: usesOurInit });
  let forced: number | undefined;
  const stopWith = (exitCode: number): void => {
    forced ??= exitCode;
    void machine.stop();
  };
  const onSignal = (signal: NodeJS.Signals): void =>
    stopWith(signal === 'SIGINT' ? EXIT_CODES.interrupted : EXIT_CODES.terminated);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  const timer =
    deadline === undefined
      ? undefined
      : setTimeout(() => stopWith(EXIT_CODES.timeout), Math.max(1, deadline - performance.now()));
  try {
    await machine.start();
    const end = await machine.wait();
    detach();
    if (forced === EXIT_CODES.timeout)
      process.stderr.write(`tsvm: the machine was ended after ${options.timeout}, as --timeout asks\n`);
    else explain(end);
    if (options.timeline !== undefined) await writeTimeline(options.timeline, machine);
    return { end, exitCode: forced ?? exitCodeOf(end) };
  } finally {
    clearTimeout(timer);
    stopProgress();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, onSignal);
    detach();
  }
}

function explain(end: MachineEnd): void {
  switch (end.kind) {
    case 'panic':
      process.stderr.write(`tsvm: the guest's kernel panicked: ${end.message}\n`);
      return;
    case 'triple-fault':
      process.stderr.write('tsvm: the guest crashed with a triple fault\n');
      return;
    case 'kvm-error':
      process.stderr.write(`tsvm: ${end.message}\n${end.registers}\n`);
      return;
    case 'power-off':
    case 'reset':
    case 'stopped':
      return;
    default:
      end satisfies never;
  }
}

async function writeTimeline(path: string, machine: Machine): Promise<void> {
  try {
    await writeFile(path, `${JSON.stringify(machine.timeline(), undefined, 2)}\n`);
  } catch (cause) {
    throw new TsvmError('TSVM_FILE', `cannot write the timeline to ${path}: ${describeFileError(cause)}`, {
      hint: 'check the path',
      cause,
    });
  }
}
