/** QEMU's microvm, with the default guest, as a peer. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandSegment } from '../../src/guest/command.js';
import { MIB } from '../../src/util/units.js';
import type { BenchHost } from './benchmark.js';
import { GUEST_MEMORY_BYTES, guestOf } from './guest.js';

/** Written to the power port by a guest that powers off. */
export const SLEEP_S5 = 0x34;

/**
 * As lean as a microvm gets: no ACPI, no option ROMs, qboot in place of SeaBIOS, the kernel entered by PVH.
 *
 * @param more the serial port's other end, and what else there is.
 * @param append of the kernel's command line.
 */
export function qemuArguments(
  host: BenchHost,
  initrd: string,
  more: readonly string[],
  append: readonly string[] = [],
): string[] {
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
    ...[
      '-kernel',
      guest.kernel,
      '-initrd',
      initrd,
      '-append',
      [guest.cmdline, 'console=ttyS0', ...append].join(' '),
    ],
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
  base = guestOf(host).initrd,
): string {
  const path = join(directory, 'initramfs-command.cpio');
  const command = commandSegment({ argv, tty: false, env: { TERM: 'linux' } });
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
