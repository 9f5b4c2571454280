/** Every kind of kernel image and every way into it, and firmware. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { createMachine, deviceKinds, findGuest, type MachineConfig } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { debianKernel, debianKernelProblem, VIRTIO_MODULES } from '../support/debian-kernel.js';
import {
  ConsoleLog,
  endOf,
  guestConfig,
  initramfsWith,
  inRig,
  interpreted,
  temporaryDirectory,
} from '../support/guest.js';
import { missing, notHere } from '../support/skip-reasons.js';
import { asm64, tiny, tinyKernel } from '../support/tiny-kernel.js';
import { makeBzImage, makeElf, xenNote } from '../unit/boot/images.js';

const directory = temporaryDirectory();

function save(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

async function boot(config: MachineConfig) {
  await using machine = await createMachine(config);
  const log = new ConsoleLog(machine);
  await machine.start();
  const end = await endOf(machine, log);
  return { end, text: log.text, timeline: machine.timeline() };
}

/** Output of a program that was given the bytes; undefined where it is not installed. */
function packed(command: readonly string[], bytes: Uint8Array): Uint8Array | undefined {
  const [program = '', ...args] = command;
  const { error, status, stdout } = spawnSync(program, args, { input: bytes, maxBuffer: 1 << 28 });
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return undefined;
  expect(status, command.join(' ')).toBe(0);
  return stdout;
}

describe('a kernel of a few instructions boots', () => {
  const hello = tinyKernel([...tiny.print('hello\n'), ...tiny.powerOff()]);

  test('as a vmlinux at its 64-bit entry', async () => {
    expect((await boot({ kernel: save('elf', hello), memoryBytes: 4 * MIB })).text).toBe('hello\n');
  });

  // As scripts/Makefile.lib of Linux packs them; all but gzip with the unpacked length behind.
  const formats: readonly (readonly [string, readonly string[]])[] = [
    ['gzip', ['gzip', '-9']],
    ['bzip2', ['bzip2', '-9']],
    ['lzma', ['lzma', '-9']],
    ['xz', ['xz', '--check=crc32', '--x86', '--lzma2=dict=1MiB']],
    ['lz4', ['lz4', '-l', '-9', '-', '-']],
    ['zstd', ['zstd', '-19']],
  ];
  test.for(formats)('as a bzImage packed with %s', async ([name, command], { skip }) => {
    const payload = packed(command, hello);
    if (payload === undefined) return skip(missing(`${command[0]} (scripts/packages/test.txt)`));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(hello.length);
    const withLength = name === 'gzip' ? payload : Buffer.concat([payload, length]);
    const kernel = save(`bz-${name}`, makeBzImage({ payload: withLength }));
    expect((await boot({ kernel, memoryBytes: 4 * MIB })).text).toBe('hello\n');
  });

  test('as a bzImage that unpacks itself (--entry bzimage): entered 0x200 behind its start', async () => {
    const image = makeBzImage({ payload: gzipSync(hello) });
    image.set([...tiny.print('itself'), ...tiny.powerOff()], 1024 + 0x200);
    const config = { kernel: save('bz-self', image), memoryBytes: 4 * MIB, entry: 'bzimage' } as const;
    expect((await boot(config)).text).toBe('itself');
  });

  test('at its PVH entry, in 32-bit mode with EBX at hvm_start_info', async () => {
    // mov eax, [ebx]; then its four bytes to the serial port: out dx, al; shr eax, 8
    const code = [
      ...[0x8b, 0x03, 0x66, 0xba, 0xf8, 0x03],
      ...Array.from({ length: 4 }, () => [0xee, 0xc1, 0xe8, 8]).flat(),
      ...tiny.powerOff(),
    ];
    const image = makeElf({
      segments: [
        { paddr: 0x10_0000n, data: Uint8Array.from(code) },
        { type: 4, data: xenNote(18, Uint8Array.of(0, 0, 0x10, 0)) },
      ],
    });
    const config = { kernel: save('pvh', image), memoryBytes: 4 * MIB, entry: 'pvh' } as const;
    expect(Buffer.from((await boot(config)).text, 'latin1').readUInt32LE()).toBe(0x336e_c578);
  });

  test('from the reset vector, by the builtin firmware, with RSI at boot_params', async () => {
    // boot_params has the setup header's magic at 0x202: mov eax, [rsi + 0x202]
    const code = [0x8b, 0x86, 2, 2, 0, 0, ...asm64.printRax(4), ...tiny.powerOff()];
    const kernel = save('elf-rsi', tinyKernel(code));
    const config = { kernel, memoryBytes: 4 * MIB, firmware: 'builtin' } as const;
    expect((await boot(config)).text).toBe('HdrS');
    expect((await boot({ kernel, memoryBytes: 4 * MIB })).text).toBe('HdrS');
  });
});

describe('the default guest boots', () => {
  const command = { argv: ['echo', 'up'], tty: false };
  const up = { end: { kind: 'power-off', exitStatus: 0 }, text: 'up\n' };

  test('from its bzImage, unpacked on the host', async () => {
    const { bzImage } = (await findGuest()).build;
    expect(await boot(await guestConfig({ kernel: bzImage!, command }))).toMatchObject(up);
  });

  test('at its PVH entry', async () => {
    expect(await boot(await guestConfig({ entry: 'pvh', command }))).toMatchObject(up);
  });

  test('from the reset vector, by the builtin firmware', async () => {
    expect(await boot(await guestConfig({ firmware: 'builtin', command }))).toMatchObject(up);
  });

  test('with its initramfs packed with gzip, unpacked on the host', async () => {
    const { readFile } = await import('node:fs/promises');
    const initrd = save('initramfs.gz', gzipSync(await readFile((await findGuest()).initrd), { level: 1 }));
    expect(await boot(await guestConfig({ initrd, command }))).toMatchObject(up);
  });

  test('from its bzImage, unpacking itself (--entry bzimage)', async ({ skip }) => {
    skip(interpreted, notHere('an interpreted decompressor takes minutes'));
    const { bzImage } = (await findGuest()).build;
    expect(await boot(await guestConfig({ kernel: bzImage!, entry: 'bzimage', command }))).toMatchObject(up);
  });
});

describe('ACPI', () => {
  const problem = interpreted
    ? notHere('a distribution’s kernel takes minutes where ring 0 is interpreted')
    : debianKernelProblem();

  test('tables are all that a distribution’s kernel needs: CPUs, a disk, power-off', async ({ skip }) => {
    skip(problem !== undefined, problem);
    const parts = debianKernel();
    const disk = save('disk', Buffer.from('on the disk\n'.padEnd(512, '\0')));
    const modules = VIRTIO_MODULES.map((name) => `${name}.ko`);
    const script = `grep -c ^processor /proc/cpuinfo; ls /sys/firmware/acpi/tables; ls -d /sys/bus/acpi/devices/LNRO0005:*
      for module in ${modules.join(' ')}; do busybox insmod /$module; done; head -n 1 /dev/vda; poweroff -f`;
    const { end, text } = await boot({
      kernel: join(parts, 'vmlinux'),
      initrd: await initramfsWith(
        directory,
        Object.fromEntries(modules.map((file) => [file, join(parts, file)])),
      ),
      // It would look for an AGP bridge at every place of 256 PCI buses: minutes in an emulated CPU.
      cmdline: 'console=ttyS0 quiet panic=-1 pci=off mitigations=off random.trust_cpu=on',
      discovery: 'acpi',
      memoryBytes: 256 * MIB,
      cpus: 2,
      devices: [deviceKinds['blk']!.fromCli(disk)],
      command: { argv: ['sh', '-c', script], tty: false },
    });
    expect(text).toMatch(/^2$/m);
    for (const table of ['APIC', 'DSDT', 'FACP']) expect(text).toContain(table);
    expect(text).toMatch(/^\/sys\/bus\/acpi\/devices\/LNRO0005:/m);
    expect(text).toMatch(/^on the disk$/m);
    expect(end.kind, text).toBe('power-off');
  });
});

describe('a foreign firmware', () => {
  test.each(['bios.bin', 'bios-256k.bin'])('SeaBIOS (%s) starts, and finds nothing to boot', async (name) => {
    const firmware = `/usr/share/seabios/${name}`; // Debian: seabios, in scripts/packages/test.txt
    await using machine = await createMachine({ firmware, memoryBytes: 32 * MIB });
    const log = new ConsoleLog(machine);
    await machine.start();
    await log.waitFor(/SeaBIOS \(version \S+\)/);
    await log.waitFor(/No bootable device/);
    await machine.stop();
    expect(await machine.wait()).toEqual({ kind: 'stopped' });
  });
});

test('the rig is no interpreted host', () => {
  expect(inRig && interpreted).toBe(false);
});
