/** The default guest as a library object: one boot, many checks over its shell. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMachine, deviceKinds, findGuest, type Machine } from '../../src/index.js';
import { GIB } from '../../src/util/units.js';
import {
  ConsoleLog,
  endOf,
  guestConfig,
  hostMemoryBytes,
  interpreted,
  Session,
  temporaryDirectory,
} from '../support/guest.js';
import { notHere } from '../support/skip-reasons.js';

const directory = temporaryDirectory();
const SECTOR_BYTES = 512;
const DISK_BYTES = 512 * SECTOR_BYTES;

/** A disk whose every sector begins with its number. */
function numberedDisk(name: string): string {
  const bytes = Buffer.alloc(DISK_BYTES);
  for (let sector = 0; sector < DISK_BYTES / SECTOR_BYTES; sector++) {
    bytes.write(`sector ${sector}\n`, sector * SECTOR_BYTES);
  }
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

function sectorOf(path: string, sector: number): string {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  const file = openSync(path, 'r');
  readSync(file, bytes, 0, SECTOR_BYTES, sector * SECTOR_BYTES);
  closeSync(file);
  return bytes.toString('latin1').replace(/\0+$/, '');
}

describe('Linux on two vCPUs with two disks and a serial console', () => {
  const disk = numberedDisk('disk');
  const readOnlyDisk = numberedDisk('read-only');
  let guest: Session;

  beforeAll(async () => {
    guest = await Session.boot({
      cpus: 2,
      devices: [
        deviceKinds['blk']!.fromCli(`${disk},id=first`),
        deviceKinds['blk']!.fromCli(`${readOnlyDisk},ro`),
        deviceKinds['rng']!.fromCli(''),
      ],
    });
  });
  afterAll(() => guest?.[Symbol.asyncDispose]());

  test('is the kernel that was built', async () => {
    expect(await guest.run('uname -sr')).toEqual({
      output: `Linux ${(await findGuest()).build.version}\n`,
      status: 0,
    });
  });

  test('gives output and status of a command', async () => {
    expect(await guest.run('echo out; echo error >&2; false')).toEqual({ output: 'out\nerror\n', status: 1 });
    expect(await guest.run('sh -c "kill -9 \\$\\$"')).toMatchObject({ status: 137 });
    expect((await guest.run('no-such-program')).status).toBe(127);
  });

  test('prints much, in order', async () => {
    const { output } = await guest.run('seq 1 1000');
    expect(output).toBe(Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join(''));
  });

  test('has both vCPUs, by the MP table', async () => {
    expect((await guest.run('grep -c ^processor /proc/cpuinfo')).output).toBe('2\n');
    // Both run user code: pinned to each, a shell says where it is (field 39 of stat: the processor).
    const pinned = 'taskset $mask sh -c "cut -d\\" \\" -f39 /proc/self/stat"';
    const { output } = await guest.run(`for mask in 1 2; do ${pinned}; done`);
    expect(output).toBe('0\n1\n');
  });

  test('has the memory that it was given', async () => {
    const { output } = await guest.run('grep MemTotal /proc/meminfo');
    const kib = Number(/(\d+) kB/.exec(output)?.[1]);
    expect(kib).toBeGreaterThan(40 * 1024);
    expect(kib).toBeLessThan(64 * 1024);
  });

  test('reads its first disk, whose size and name are right', async () => {
    expect((await guest.run('cat /sys/block/vda/size /sys/block/vda/serial')).output).toMatch(
      /^512\nfirst\n?$/,
    );
    const read = await guest.run('dd if=/dev/vda bs=512 skip=511 count=1 2>/dev/null | head -n 1');
    expect(read.output).toBe('sector 511\n');
    const { output } = await guest.run('sha256sum < /dev/vda');
    expect(output).toBe(`${createHash('sha256').update(readFileSync(disk)).digest('hex')}  -\n`);
  });

  test('writes to its first disk; after a sync the host file has it', async () => {
    const write = 'echo "written by the guest" | dd of=/dev/vda bs=512 seek=7 conv=sync,fsync 2>/dev/null';
    expect(await guest.run(write)).toEqual({ output: '', status: 0 });
    expect(sectorOf(disk, 7)).toBe('written by the guest\n');
    expect(sectorOf(disk, 6)).toBe('sector 6\n');
    expect(sectorOf(disk, 8)).toBe('sector 8\n');
  });

  test('cannot read or write beyond the end of a disk', async () => {
    expect(
      (await guest.run('dd if=/dev/vda bs=512 skip=512 count=1 2>/dev/null | wc -c')).output.trim(),
    ).toBe('0');
    expect(
      (await guest.run('echo x | dd of=/dev/vda bs=512 seek=512 conv=sync 2>/dev/null')).status,
    ).not.toBe(0);
  });

  test('reads its second disk, and cannot write to it', async () => {
    expect((await guest.run('head -n 1 /dev/vdb; cat /sys/block/vdb/ro')).output).toBe('sector 0\n1\n');
    expect((await guest.run('echo x 2>/dev/null > /dev/vdb')).status).not.toBe(0);
    expect(sectorOf(readOnlyDisk, 0)).toBe('sector 0\n');
  });

  test('draws random bytes from the host', async () => {
    expect((await guest.run('cat /sys/class/misc/hw_random/rng_current')).output).toMatch(/^virtio_rng/);
    const draw = async () => (await guest.run('head -c 16 /dev/hwrng | md5sum')).output;
    expect(await draw()).not.toBe(await draw());
  });

  test('takes interrupts of every device that it uses', async () => {
    const { output } = await guest.run('cat /proc/interrupts');
    for (const name of ['virtio0', 'virtio1', 'virtio2', 'ttyS0']) {
      const line = output.split('\n').find((text) => text.trim().endsWith(name)) ?? '';
      expect(
        /:\s+(\d+)\s+(\d+)/
          .exec(line)
          ?.slice(1)
          .map(Number)
          .some((count) => count > 0),
        output,
      ).toBe(true);
    }
  });

  test('has a clock that is right', async () => {
    const guestSeconds = Number((await guest.run('date +%s')).output);
    expect(Math.abs(guestSeconds - Date.now() / 1000)).toBeLessThan(30);
  });

  test('stands still while it is paused, and goes on', async () => {
    const { machine, log } = guest;
    await guest.run('(while sleep 0.05; do echo tick; done) & ticker=$!');
    await log.waitFor(/tick\n/, log.text.length);
    await machine.pause();
    await sleep(50);
    const length = log.text.length;
    await sleep(400);
    expect(log.text.length).toBe(length);
    await machine.resume();
    await log.waitFor(/tick\n/, length);
    await guest.run('kill $ticker; wait');
  });

  test('takes more input than its queue holds', async () => {
    const lines = Array.from({ length: 400 }, (_, i) => `line number ${i}`);
    const { output } = await guest.run(`cat <<'END'\n${lines.join('\n')}\nEND`);
    expect(output).toBe(`${lines.join('\n')}\n`);
  });

  // The last: it ends the machine.
  test('ends with the status of its command, its disks released', async () => {
    expect(await guest.exit(5)).toEqual({ kind: 'power-off', exitStatus: 5 });
    expect(guest.machine.state).toBe('ended');
    const { phases, insnEmulation, exits, kvmStats } = guest.machine.timeline();
    expect(phases.map(({ name }) => name)).toEqual([
      'create', 'files-read', 'vm-created', 'guest-loaded', 'start', 'init', 'command', 'end',
    ]); // biome-ignore format: one line reads better
    expect(exits.total).toBeGreaterThan(100);
    expect(kvmStats?.['exits']).toBeGreaterThan(100);
    if (interpreted) expect(insnEmulation).toBeGreaterThan(1_000_000);
    await using again = await createMachine(
      await guestConfig({ devices: [deviceKinds['blk']!.fromCli(disk)] }),
    );
    expect(again.state).toBe('ready');
  });
});

describe('Linux on a virtio console', () => {
  test('talks over hvc0, byte for byte, and knows its size', async () => {
    await using guest = await Session.boot({ console: 'virtio' });
    const { output } = await guest.run('seq 1 1000');
    expect(output).toBe(Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join(''));
    guest.machine.console.resize(132, 43);
    await guest.run('until stty size | grep -q "43 132"; do sleep 0.05; done');
    const lines = Array.from({ length: 100 }, (_, i) => `line number ${i}`);
    expect((await guest.run(`cat <<'END'\n${lines.join('\n')}\nEND`)).output).toBe(`${lines.join('\n')}\n`);
    // The serial port is still there, for a kernel's last words; this one does not use it.
    expect(await guest.exit(0)).toEqual({ kind: 'power-off', exitStatus: 0 });
  });
});

describe('Linux machines as objects', () => {
  test('are made of a guest as it was found, and its console is heard', async () => {
    const guest = await findGuest();
    const command = { argv: ['cat', '/proc/cmdline'], tty: false };
    await using machine = await createMachine({ ...guest, command });
    const log = new ConsoleLog(machine);
    await machine.start();
    expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 0 });
    expect(log.text).toBe(`${machine.cmdline}\n`);
    expect(log.text).toContain(guest.cmdline);
    expect(log.text.trim().split(' ')).toContain('console=ttyS0');
    expect(machine.config.build).toEqual(guest.build);
  });

  test('that run at once in one process do not know of each other, and `await using` ends them', async () => {
    let kept: Machine | undefined;
    {
      const boot = async (word: string) => {
        const config = await guestConfig({ command: { argv: ['echo', word], tty: false } });
        const machine = await createMachine(config);
        return { machine, log: new ConsoleLog(machine), word };
      };
      const both = [await boot('first'), await boot('second')];
      kept = (await boot('never')).machine;
      await using third = kept;
      await Promise.all(both.map(({ machine }) => machine.start()));
      for (const { machine, log, word } of both) {
        expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 0 });
        expect(log.text).toBe(`${word}\n`);
      }
      await third.start();
    }
    expect(kept.state).toBe('ended');
  });

  const tooSmall = hostMemoryBytes < 5 * GIB ? notHere('this host has less than 5 GiB') : undefined;
  const tooSlow = interpreted ? notHere('an interpreted kernel takes a minute to initialise it') : undefined;
  const problem = tooSmall ?? tooSlow;
  test('with 5 GiB use what lies above 4 GiB', async ({ skip }) => {
    skip(problem !== undefined, problem);
    const script = 'grep MemTotal /proc/meminfo; grep -i "system ram" /proc/iomem';
    const config = await guestConfig({
      memoryBytes: 5 * GIB,
      command: { argv: ['sh', '-c', script], tty: false },
    });
    await using machine = await createMachine(config);
    const log = new ConsoleLog(machine);
    await machine.start();
    expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 0 });
    expect(Number(/MemTotal:\s+(\d+)/.exec(log.text)?.[1])).toBeGreaterThan(4.5 * 1024 * 1024);
    expect(log.text).toMatch(/100000000-17fffffff : System RAM/);
  });
});
