/** QEMU's microvm, with the default guest, as a peer. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandSegment } from '../../src/boot/cpio.js';
import { ACPI_POWER_PORT } from '../../src/memory/layout.js';
import { MIB } from '../../src/util/units.js';
import type { BenchHost } from './benchmark.js';
import { GUEST_MEMORY_BYTES, guestOf } from './guest.js';

/** Written to the power port by a guest that powers off. */
export const SLEEP_S5 = 0x34;

/**
 * As lean as a microvm gets: no ACPI, no option ROMs, qboot in place of SeaBIOS, the kernel entered by PVH.
 *
 * @param more the serial port's other end, and what else there is.
 */
export function qemuArguments(host: BenchHost, initrd: string, more: readonly string[]): string[] {
  const guest = guestOf(host);
  return [
    ...[
      '-M',
      'microvm,acpi=off,rtc=off,pit=on,pic=on,isa-serial=on,x-option-roms=off,auto-kernel-cmdline=off',
    ],
    ...[
      '-bios',
      'qboot.rom',
      '-accel',
      'kvm',
      '-cpu',
      'host',
      '-smp',
      '1',
      '-m',
      `${GUEST_MEMORY_BYTES / MIB}`,
    ],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', guest.kernel, '-initrd', initrd, '-append', `${guest.cmdline} console=ttyS0`],
    ...more,
  ];
}

/** Ends QEMU when the guest writes to a port. */
export const exitAtPort = (port: number): string[] => [
  ...['-serial', 'stdio', '-device'],
  `isa-debug-exit,iobase=0x${port.toString(16)},iosize=1`,
];

/** What QEMU exits with when `value` is written to isa-debug-exit. */
export const qemuStatus = (value: number): number => ((value << 1) | 1) & 0xff;

/** The guest's initramfs, or another, with a command in it. */
export function initramfsWith(
  host: BenchHost,
  directory: string,
  argv: readonly string[],
  base = guestOf(host).initramfs,
): string {
  const path = join(directory, 'initramfs-command.cpio');
  const command = commandSegment({ options: ['tty=0', 'env=TERM=linux'], argv });
  writeFileSync(path, Buffer.concat([readFileSync(base), command]));
  return path;
}

/** Milliseconds from just before the process is made until it has ended. */
export function timeProcess(
  command: string,
  args: readonly string[],
  expectedStatus: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = '';
    const start = performance.now();
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes: Buffer) => {
        output += bytes.toString('latin1');
      });
    }
    child.on('error', reject);
    child.on('exit', (status) => {
      const ms = performance.now() - start;
      if (status === expectedStatus) resolve(ms);
      else
        reject(
          new Error(`${command} ${args.join(' ')} ended with ${status}, not ${expectedStatus}:\n${output}`),
        );
    });
  });
}

/** Runs `io` in a microvm with `disk`. Returns the seconds that the guest's clock says it took. */
export async function runIoInQemu(run: {
  readonly host: BenchHost;
  readonly scratch: string;
  /** Has /io. */
  readonly initrd: string;
  readonly argv: readonly string[];
  readonly disk: string;
}): Promise<number> {
  const { host, scratch, initrd, argv, disk } = run;
  const args = qemuArguments(host, initramfsWith(host, scratch, argv, initrd), [
    // With devices, the guest must be told where they are.
    ...['-machine', 'auto-kernel-cmdline=on'],
    ...['-drive', `if=none,id=disk,format=raw,file=${disk}`, '-device', 'virtio-blk-device,drive=disk'],
    ...exitAtPort(ACPI_POWER_PORT),
  ]);
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  for await (const bytes of child.stdout) output += (bytes as Buffer).toString('latin1');
  const nanoseconds = /<end (\d+)>/.exec(output)?.[1];
  if (nanoseconds === undefined) throw new Error(`${argv.join(' ')} in QEMU failed:\n${output}`);
  return Number(nanoseconds) / 1e9;
}
