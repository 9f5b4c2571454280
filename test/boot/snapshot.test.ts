/** Linux guests that are saved, restored and forked while they work: clocks, timers, processes, disks. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  blk,
  createMachine,
  deviceKinds,
  type Machine,
  machineFromTemplate,
  restoreMachine,
} from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { ConsoleLog, endOf, guestConfig, interpreted, markOf, temporaryDirectory } from '../support/guest.js';
import { Shell } from '../support/shell.js';
import { skipAll } from '../support/skip.js';
import { notHere } from '../support/skip-reasons.js';

const root = temporaryDirectory();
let folders = 0;
const folder = (): string => join(root, `saved${++folders}`);

/** Counts in the guest, in the background, and writes the number to `file` over and over. */
function count(shell: Shell, file: string): void {
  shell.type(`(while :; do n=$((n + 1)); echo $n. > ${file}; done) &`);
}

/** Reads how far it has come. In one read(), which `read` is not, and with the full stop: half a number says nothing. */
async function counted(shell: Shell, file: string): Promise<number> {
  const read = `n=; until [ "$n" != "\${n%.}" ]; do n=$(cat ${file}); done; echo \${n%.}`;
  return Number(await shell.run(read));
}

describe('a guest from a template', () => {
  const directory = join(root, 'templates');
  const fresh = async (): Promise<Shell> =>
    await Shell.in(await machineFromTemplate(await guestConfig(), { directory }));

  beforeAll(async () => {
    await (await fresh()).machine.stop();
  }, 300_000);

  test('that is saved with all that runs in it goes on with it, twice', async () => {
    const path = folder();
    {
      await using shell = await fresh();
      count(shell, '/tmp/n');
      await shell.run('x=kept; mkdir /tmp/d; echo text > /tmp/d/f; cd /tmp/d');
      await shell.machine.snapshot(path);
      expect(await shell.run('echo $x; cat f; pwd')).toBe('kept\ntext\n/tmp/d\n');
    }
    for (const letter of ['b', 'c']) {
      await using shell = await Shell.restored(path);
      expect(await shell.run(`echo $x; cat f; pwd; echo ${letter} >> f; cat f`)).toBe(
        `kept\ntext\n/tmp/d\ntext\n${letter}\n`,
      );
      const before = await counted(shell, '/tmp/n');
      await shell.run('sleep 1');
      expect(await counted(shell, '/tmp/n')).toBeGreaterThan(before);
    }
  });

  test('that sleeps, waits for an alarm, and looks at its clocks', async () => {
    const path = folder();
    const uptime = async (shell: Shell): Promise<number> =>
      Number.parseFloat(await shell.run('cut -d" " -f1 /proc/uptime'));
    let before: number;
    {
      await using shell = await fresh();
      shell.type('(sleep 3; echo slept) & (timeout 2 sleep 100; echo "alarm $?") &');
      before = await uptime(shell);
      await shell.machine.snapshot(path);
      expect(await uptime(shell)).toBeGreaterThanOrEqual(before);
    }
    await sleep(1500);
    await using shell = await Shell.restored(path);
    const started = performance.now();
    const after = await uptime(shell);
    expect(after).toBeGreaterThanOrEqual(before);
    await shell.waitFor(/slept\n/);
    await shell.waitFor(/alarm 143\n/);
    expect(performance.now() - started).toBeLessThan(60_000);
    const asked = performance.now();
    const [date, now] = [Number(await shell.run('date +%s')), Date.now() / 1000];
    expect(Math.abs(date - now)).toBeLessThan(2 + (performance.now() - asked) / 1000);
    const later = await uptime(shell);
    expect(later).toBeGreaterThan(after);
    expect(later - after).toBeLessThan((performance.now() - started) / 1000 + 1);
  });

  test('that prints all the time: nothing is lost between what was printed before and after', async () => {
    const path = folder();
    await using shell = await fresh();
    shell.type('i=0; while :; do i=$((i + 1)); echo "line $i"; done');
    await shell.waitFor(/line 50\n/);
    await shell.machine.pause();
    await shell.machine.snapshot(path);
    const printed = shell.output;
    await using copy = await Shell.restored(path);
    await copy.waitFor(/line \d+\n(line \d+\n){50}/);
    await copy.machine.pause();
    await shell.machine.resume();
    const numbers = [...`${printed}${copy.output}`.matchAll(/line (\d+)\n/g)].map(([, n]) => Number(n));
    expect(numbers).toEqual(numbers.map((_, i) => i + 1));
  });

  test('in a chain of differential snapshots', async () => {
    const paths = [folder(), folder(), folder()] as const;
    {
      await using shell = await fresh();
      await shell.run('echo one > /tmp/one');
      await shell.machine.snapshot(paths[0], { differential: false });
    }
    {
      await using shell = await Shell.restored(paths[0]);
      await shell.run('echo two > /tmp/two; rm /tmp/one');
      const { memoryBytes } = await shell.machine.snapshot(paths[1], { differential: true });
      expect(memoryBytes).toBeLessThan(16 * MIB);
    }
    {
      await using shell = await Shell.restored(paths[1]);
      expect(await shell.run('cat /tmp/*')).toBe('two\n');
      await shell.run('echo three > /tmp/three');
      await shell.machine.snapshot(paths[2], { differential: true });
    }
    await using shell = await Shell.restored(paths[2]);
    expect(await shell.run('cat /tmp/two /tmp/three; ls /tmp')).toBe('two\nthree\nthree\ntwo\n');
  });

  test('that is forked while it works: each sees only what it did itself', async () => {
    await using shell = await fresh();
    await shell.run('echo common > /tmp/f');
    const forks = (await shell.machine.fork(2)).map((machine) => new Shell(machine));
    const [grandchild] = (await forks[0]!.machine.fork(1)).map((machine) => new Shell(machine));
    const all = [shell, ...forks, grandchild!];
    for (const [i, each] of all.entries()) each.channel.refresh({ hostname: `host${i}` });
    const seen = await Promise.all(
      all.map((each, i) =>
        each.run(`echo ${i} >> /tmp/f; cat /tmp/f; hostname; head -c 8 /dev/urandom | sha1sum`),
      ),
    );
    expect(seen.map((text) => text.split('\n').slice(0, 3))).toEqual(
      all.map((_, i) => ['common', `${i}`, `host${i}`]),
    );
    expect(new Set(seen.map((text) => text.split('\n')[3])).size).toBe(all.length);
    await Promise.all(all.map(({ machine }) => machine.stop()));
  });

  test('that was saved over and over while it works ends in order', async () => {
    await using shell = await fresh();
    const path = folder();
    for (let i = 0; i < 3; i++) {
      shell.type(`echo ${i} >> /tmp/f`);
      await shell.machine.snapshot(path);
    }
    shell.type('cat /tmp/f; exit 6');
    expect(await shell.channel.exited).toBe(6);
    expect(shell.output.endsWith('0\n1\n2\n')).toBe(true);
  });
});

const DISK_BYTES = 16 * MIB;

describe('a guest with a disk', () => {
  const disk = join(root, 'disk');
  const devices = [deviceKinds['blk']!.fromCli(disk)];
  let ready: Machine;
  let log: ConsoleLog;

  beforeAll(async () => {
    writeFileSync(disk, '');
    truncateSync(disk, DISK_BYTES);
    expect(spawnSync('mke2fs', ['-q', '-t', 'ext4', disk]).status).toBe(0);
    ready = await createMachine({ ...(await guestConfig()), channel: true, devices });
    log = new ConsoleLog(ready);
    const mark = markOf(ready, 'ready');
    await ready.start();
    await Promise.race([
      mark,
      endOf(ready, log).then((end) => Promise.reject(new Error(JSON.stringify(end)))),
    ]);
  }, 200_000);
  afterAll(async () => await ready?.stop());

  test('forked, writes to a disk of its own', async () => {
    const forks = await ready.fork(2);
    const shells = await Promise.all(forks.map((machine) => Shell.in(machine)));
    const seen = await Promise.all(
      shells.map((shell, i) =>
        shell.run(
          `mkdir -p /m; mount /dev/vda /m; echo ${i} > /m/who; sync; echo 3 > /proc/sys/vm/drop_caches; cat /m/who; umount /m`,
        ),
      ),
    );
    expect(seen).toEqual(['0\n', '1\n']);
    await Promise.all(forks.map((machine) => machine.stop()));
    expect(spawnSync('debugfs', ['-R', 'cat who', disk]).stdout.toString()).toBe('');
  });

  test('saved in the middle of writes: what it had flushed is there, and it goes on with a sound file system', async () => {
    const path = folder();
    const shell = await Shell.in(ready);
    await shell.run('mkdir -p /m; mount /dev/vda /m');
    // Each round checks all that came before.
    shell.type(
      'i=0; while :; do i=$((i + 1)); head -c 20000 /dev/urandom > /m/f$i; (cd /m; sha1sum f$i >> sums; sync; sha1sum -c -s sums) && echo "flushed $i" || echo "BAD $i"; done',
    );
    await shell.waitFor(/flushed 3\n/);
    await ready.pause();
    await ready.snapshot(path);
    const printed = shell.output;
    const flushed = Number(/.*flushed (\d+)/s.exec(printed)![1]);
    await ready.stop();
    // As it was at that moment, as if the plug had been pulled.
    const copy = join(root, 'copy');
    copyFileSync(disk, copy);
    expect(spawnSync('e2fsck', ['-fy', copy]).status).toBeLessThanOrEqual(1);
    const sums = spawnSync('debugfs', ['-R', 'cat sums', copy]).stdout.toString();
    for (let i = 1; i <= flushed; i++) expect(sums).toContain(` f${i}\n`);
    // Twice over the disk as it is, for nothing is written to it.
    for (let round = 0; round < 2; round++) {
      await using again = await Shell.restored(path, { devices });
      await again.waitFor(new RegExp(`flushed ${flushed + 2}\n`));
      expect(again.output).not.toContain('BAD');
    }
    {
      await using again = await Shell.restored(path, { devices, disks: 'direct' });
      await again.waitFor(new RegExp(`flushed ${flushed + 2}\n`));
      expect(again.output).not.toContain('BAD');
    }
    expect(spawnSync('e2fsck', ['-fy', disk]).status).toBeLessThanOrEqual(1);
    const later = spawnSync('debugfs', ['-R', 'cat sums', disk]).stdout.toString();
    for (let i = 1; i <= flushed + 2; i++) expect(later).toContain(` f${i}\n`);
    await expect(restoreMachine(path, { devices })).rejects.toMatchObject({ code: 'TSVM_DISK' });
  });
});

test('a guest keeps what it writes in an overlay, sees a disk grow, and finds both when it is restored and saved again', async () => {
  const [base, overlay, other] = ['base', 'overlay', 'other'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [base, other]) writeFileSync(path, Buffer.alloc(4 * MIB, 'x'));
  const path = folder();
  const devices = [blk({ path: base, overlay, queues: 2 }), blk({ path: other })];
  {
    await using shell = await Shell.booted({ devices });
    const { machine } = shell;
    await shell.run('echo kept | dd of=/dev/vda bs=512 seek=9 conv=notrunc,fsync 2>&-');
    await expect(machine.disks[0]!.grow(8 * MIB)).rejects.toMatchObject({ code: 'TSVM_DISK' });
    await machine.disks[1]!.grow(8 * MIB);
    await shell.run('until [ "$(cat /sys/block/vdb/size)" = 16384 ]; do sleep 0.1; done');
    await shell.run('echo grown | dd of=/dev/vdb bs=512 seek=16383 conv=notrunc,fsync 2>&-');
    await machine.snapshot(path);
  }
  expect(readFileSync(base).every((byte) => byte === 'x'.charCodeAt(0))).toBe(true);
  expect(readFileSync(other).subarray(-512, -506).toString()).toBe('grown\n');
  {
    await using shell = await Shell.restored(path, { devices });
    await shell.run('echo 3 > /proc/sys/vm/drop_caches');
    expect(await shell.run('dd if=/dev/vda bs=512 skip=8 count=2 2>&- | tail -c 513 | head -c 6')).toBe(
      'xkept\n',
    );
    expect(await shell.run('dd if=/dev/vdb bs=512 skip=16383 2>&- | head -c 6')).toBe('grown\n');
    await shell.run('echo lost | dd of=/dev/vda bs=512 seek=9 conv=notrunc,fsync 2>&-');
    expect(readFileSync(overlay).includes('lost')).toBe(false);
    // Saved again, it would lack that: it is refused instead.
    for (const differential of [false, true]) {
      await expect(shell.machine.snapshot(folder(), { differential })).rejects.toMatchObject({
        code: 'TSVM_DISK',
        hint: expect.stringContaining('--disks direct'),
      });
    }
  }
  const [second, third] = [folder(), folder()];
  const itself = [blk({ path: base, overlay, queues: 2, direct: true }), blk({ path: other })];
  for (const [from, to, sector, how] of [
    [path, second, 99, { devices, disks: 'direct' }],
    [second, third, 199, { devices: itself }],
  ] as const) {
    await using shell = await Shell.restored(from, how);
    await shell.run(`echo at ${sector} | dd of=/dev/vda bs=512 seek=${sector} conv=notrunc,fsync 2>&-`);
    await shell.run(`echo ${sector} >> /tmp/sectors`);
    await shell.machine.snapshot(to, { differential: to === second });
  }
  await using shell = await Shell.restored(third, { devices });
  await shell.run('echo 3 > /proc/sys/vm/drop_caches');
  expect(
    await shell.run('for s in 9 99 199; do dd if=/dev/vda bs=512 skip=$s count=1 2>&- | head -n 1; done'),
  ).toBe('kept\nat 99\nat 199\n');
  expect(await shell.run('cat /tmp/sectors')).toBe('99\n199\n');
});

describe('a guest of two vCPUs', () => {
  skipAll(interpreted ? notHere('two interpreted kernels say only how busy the host is') : undefined);

  test('is saved, restored and forked with both at work', async () => {
    const path = folder();
    await using shell = await Shell.booted({ cpus: 2 });
    const { machine } = shell;
    expect(await shell.run('nproc')).toBe('2\n');
    for (const n of [1, 2]) count(shell, `/tmp/n${n}`);
    await shell.run('sleep 1');
    await machine.snapshot(path);
    const [forked] = await machine.fork(1);
    for (const each of [shell, new Shell(forked!), await Shell.restored(path)]) {
      await using _ = each;
      const before = [await counted(each, '/tmp/n1'), await counted(each, '/tmp/n2')];
      await each.run('sleep 2');
      expect(await counted(each, '/tmp/n1')).toBeGreaterThan(before[0]!);
      expect(await counted(each, '/tmp/n2')).toBeGreaterThan(before[1]!);
      expect(await each.run('nproc')).toBe('2\n');
    }
  });
});
