/** virtio-pmem with a real guest: files of the host as its memory, which it mounts, runs from, and shares with other machines. */
import { createHash } from 'node:crypto';
import { appendFileSync, copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { cmdlineForRoot } from '../../src/host/guest-store.js';
import { createMachine, findGuest, pmem, restoreMachine } from '../../src/index.js';
import { KIB, MIB } from '../../src/util/units.js';
import { ConsoleLog, endOf, guestConfig, temporaryDirectory } from '../support/guest.js';
import { Shell } from '../support/shell.js';
import { smaps } from '../support/smaps.js';

const root = temporaryDirectory();
const image = join(root, 'root.ext4');
const odd = join(root, 'odd.img');
/** Neither whole granules nor whole pages. */
const ODD_BYTES = 2 * MIB + 5 * KIB;

beforeAll(async () => {
  copyFileSync((await findGuest()).build.rootfs!, image);
  writeFileSync(odd, Buffer.alloc(ODD_BYTES, 'tsvm'));
});

/** Memory that the process has of mappings of `path`: all of it, and copies of its own. */
function mappedKib(path: string): { resident: number; copied: number } {
  const mappings = smaps().filter(({ head }) => head.endsWith(` ${path}`));
  return {
    resident: mappings.reduce((sum, { residentKib }) => sum + residentKib, 0),
    copied: mappings.reduce((sum, { anonymousKib }) => sum + anonymousKib, 0),
  };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('a guest mounts a file, runs from it, and changes nothing; forks and restored machines go on with it', async () => {
  const before = sha256(readFileSync(image));
  const path = join(root, 'saved');
  const devices = [pmem({ path: image }), pmem({ path: odd })];
  {
    await using shell = await Shell.booted({ devices });
    expect(await shell.run('cat /sys/block/pmem0/size /sys/block/pmem1/size')).toBe(
      `${(32 * MIB) / 512}\n${(4 * MIB) / 512}\n`,
    );
    await shell.run('mkdir /m; mount -o ro,dax=always /dev/pmem0 /m');
    expect(await shell.run('grep /m /proc/mounts')).toMatch(/dax/);
    expect(await shell.run('/m/bin/busybox echo from memory')).toBe('from memory\n');
    expect(await shell.run(`head -c ${ODD_BYTES} /dev/pmem1 | sha256sum`)).toBe(
      `${sha256(readFileSync(odd))}  -\n`,
    );
    expect(await shell.run(`tail -c +${ODD_BYTES + 1} /dev/pmem1 | tr -d '\\0' | wc -c`)).toBe('0\n');
    // Its kernel does not know that it cannot write. KVM drops it.
    await shell.run('dd if=/dev/zero of=/dev/pmem1 bs=512 count=1 conv=notrunc 2>/dev/null; sync');
    expect(readFileSync(odd, { encoding: 'latin1' }).slice(0, 8)).toBe('tsvmtsvm');
    expect(await shell.run('touch /m/x')).toMatch(/Read-only/);

    const [child] = await shell.machine.fork(1);
    await using forked = new Shell(child!);
    expect(await forked.run('/m/bin/busybox echo from a fork')).toBe('from a fork\n');
    const { resident, copied } = mappedKib(image);
    expect(copied).toBe(0);
    expect(resident).toBeGreaterThan(256);
    await shell.machine.snapshot(path);
  }
  {
    await using restored = await Shell.restored(path, { devices });
    expect(
      await restored.run('/m/bin/busybox sha256sum /m/bin/busybox; /bin/busybox sha256sum /m/bin/busybox'),
    ).toMatch(/^(\w{64}).*\n\1/);
  }
  expect(sha256(readFileSync(image))).toBe(before);
  expect(mappedKib(image).resident).toBe(0);
  appendFileSync(odd, 'more');
  await expect(restoreMachine(path, { devices })).rejects.toThrow(/odd\.img has changed since the snapshot/);
});

test('a guest has its root in memory', async () => {
  const guest = await findGuest();
  const machine = await createMachine(
    await guestConfig({
      cmdline: `${cmdlineForRoot(guest)} root=/dev/pmem0 rootflags=dax ro`,
      command: { argv: ['grep', ' / ext4 ', '/proc/mounts'], tty: false },
      devices: [pmem({ path: image })],
    }),
  );
  const log = new ConsoleLog(machine);
  await machine.start();
  expect(await endOf(machine, log)).toEqual({ kind: 'power-off', exitStatus: 0 });
  expect(log.text).toMatch(/pmem0 \/ ext4 ro.*dax/);
});

test('a machine whose file is truncated ends, and says so', async () => {
  const lost = join(root, 'lost.img');
  copyFileSync(odd, lost);
  await using shell = await Shell.booted({ devices: [pmem({ path: lost })] });
  const log = new ConsoleLog(shell.machine);
  truncateSync(lost, 4096);
  shell.type('cat /dev/pmem0 > /dev/null');
  expect(await endOf(shell.machine, log)).toMatchObject({
    kind: 'kvm-error',
    message: `pmem ${lost} was truncated while the machine ran with it`,
  });
});
