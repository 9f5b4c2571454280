/**
 * Programs that people use, as judges: the guest's user space is this machine's own root, shared read-only over virtio-fs. What
 * they write goes to a second shared folder, to a disk, and over a network.
 */
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { blk, net, share } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { run, tsvm } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { interpreted, temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';
import { Shell } from '../support/shell.js';
import { skipAll } from '../support/skip.js';
import { missingProgram, notHere } from '../support/skip-reasons.js';

const root = temporaryDirectory();
const work = join(root, 'work');
const disk = join(root, 'disk.img');
mkdirSync(work);
writeFileSync(disk, '');
truncateSync(disk, 32 * MIB);

/** Commands in the guest: this machine's root at /h, with what must be written elsewhere. */
const ENTER = [
  'mkdir -p /h && mount -t virtiofs -o ro host /h && mount -t proc proc /h/proc && mount -t devtmpfs dev /h/dev',
  'for d in tmp run root; do mount -t tmpfs -o mode=755 $d /h/$d; done',
].join('; ');

/** Reason to skip: where ring 0 is interpreted, a program that opens its libraries takes a minute. */
const slow = interpreted ? notHere('this KVM interprets the guest’s kernel') : undefined;

describe('a guest with this machine’s programs', () => {
  skipAll(slow);

  let shell: Shell;
  let sshPort: number;
  const problem = passtProblem();

  beforeAll(async () => {
    if (slow !== undefined) return;
    sshPort = await freePort();
    const forwards = [{ protocol: 'tcp', address: '127.0.0.1', port: sshPort, guestPort: 22 }] as const;
    shell = await Shell.booted({
      memoryBytes: 384 * MIB,
      devices: [
        share({ path: '/', tag: 'host', readOnly: true }),
        share({ path: work, tag: 'work' }),
        blk({ path: disk }),
        ...(problem === undefined ? [net({ backend: 'user', forwards, loopback: true })] : []),
      ],
    });
    await shell.run(`${ENTER}; mount -t virtiofs work /h/mnt`);
  });

  afterAll(async () => {
    await shell?.machine.stop();
  });

  /** Runs a script in it; everything must succeed. */
  async function debian(script: string): Promise<string> {
    const output = await shell.run(`chroot /h /bin/sh -ec 'cd /mnt; ${script}'; echo "status $?"`);
    expect(output).toMatch(/status 0\n$/);
    return output.slice(0, output.lastIndexOf('status'));
  }

  test('git makes, clones and checks a repository in a shared folder', async () => {
    await debian('git init -q origin; cd origin; for i in $(seq 10); do echo $i > file-$i; done; git add .');
    await debian('cd origin; git -c user.name=a -c user.email=a@b commit -q -m first; git fsck --strict');
    await debian('git clone -q origin clone; cd clone; test -z "$(git status --porcelain)"');
    const args = ['-c', 'safe.directory=*', '-C', join(work, 'clone'), 'fsck', '--strict'];
    expect(await run('git', args)).toMatchObject({ status: 0 });
    expect(readFileSync(join(work, 'clone/file-10'), 'utf8')).toBe('10\n');
  });

  test('tar unpacks a tree that is the same on the host', async () => {
    await debian('tar -C /usr/include -cf - linux/netfilter | tar -xf -');
    const same = await run('diff', ['-r', '/usr/include/linux/netfilter', join(work, 'linux/netfilter')]);
    expect(same).toMatchObject({ status: 0 });
  });

  test('a compiler compiles, links and its program runs', async () => {
    writeFileSync(join(work, 'hello.c'), '#include <stdio.h>\nint main(void) { puts("hello"); }\n');
    expect(await debian('gcc -O1 hello.c -o hello; ./hello')).toBe('hello\n');
    expect((await run(join(work, 'hello'), [])).stdout.toString()).toBe('hello\n');
  });

  test('fio finds what it wrote, on a disk and in a shared folder', async () => {
    const job = `--size=2M --bs=4k --rw=randwrite --verify=crc32c --verify_fatal=1 --fsync=64 --thread --minimal`;
    await debian(`fio --name=disk --filename=/dev/vda --direct=1 ${job} > /dev/null`);
    await debian(`fio --name=folder --filename=/mnt/fio ${job} > /dev/null`);
  });

  test('eight writers of one SQLite database with a write-ahead log lose nothing', async ({ skip }) => {
    const reason = missingProgram('sqlite3');
    if (reason !== undefined) skip(reason);
    const inserts = (writer: number) =>
      Array.from(
        { length: 8 },
        (_, i) => `INSERT INTO t VALUES(${writer}, ${i}, hex(randomblob(500)));\n`,
      ).join('');
    for (let writer = 0; writer < 8; writer++)
      writeFileSync(join(work, `writer-${writer}.sql`), inserts(writer));
    await debian('sqlite3 db "PRAGMA journal_mode=WAL; CREATE TABLE t(writer, i, text)" > /dev/null');
    await debian(
      'for w in 0 1 2 3 4 5 6 7; do sqlite3 -bail -cmd ".timeout 90000" db < writer-$w.sql & all="$all $!"; done; for w in $all; do wait $w; done',
    );
    const ask =
      'PRAGMA integrity_check; SELECT count(*), count(DISTINCT writer * 8 + i), sum(length(text)) FROM t';
    const right = 'ok\n64|64|64000\n';
    expect(await debian(`sqlite3 db "${ask}"`)).toBe(right);
    expect((await run('sqlite3', [join(work, 'db'), ask])).stdout.toString()).toBe(right);
  });

  describe('on a network', () => {
    skipAll(problem);

    test('curl fetches a file whole', async () => {
      const bytes = Buffer.alloc(300_000, 'tsvm');
      const server = createServer((_, response) => response.end(bytes)).listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      try {
        await debian(`curl -sS -o fetched http://10.0.2.2:${port}/`);
        expect(readFileSync(join(work, 'fetched')).equals(bytes)).toBe(true);
      } finally {
        server.close();
      }
    });

    test('iperf3 measures both ways', async () => {
      const port = await freePort();
      const server = run('iperf3', ['-s', '-1', '-B', '127.0.0.1', '-p', String(port), '-J']);
      await debian(`iperf3 -c 10.0.2.2 -p ${port} -t 2 > /tmp/out || { cat /tmp/out; exit 1; }`);
      expect(JSON.parse((await server).stdout.toString()).end.sum_received.bytes).toBeGreaterThan(100_000);
      const back = run('iperf3', ['-s', '-1', '-B', '127.0.0.1', '-p', String(port)]);
      await debian(`iperf3 -R -J -c 10.0.2.2 -p ${port} -t 2 > iperf3.json`);
      expect(await back).toMatchObject({ status: 0 });
      const { end } = JSON.parse(readFileSync(join(work, 'iperf3.json'), 'utf8'));
      expect(end.sum_received.bytes).toBeGreaterThan(100_000);
    });

    test('ssh runs a command through a forwarded port', async () => {
      const key = join(root, 'key');
      const made = await run('dropbearkey', ['-t', 'ed25519', '-f', key]);
      const publicKey = /^ssh-ed25519 .*$/m.exec(made.stdout.toString())?.[0];
      writeFileSync(join(work, 'authorized_keys'), `${publicKey}\n`);
      await debian(
        'mkdir -m 700 /root/.ssh; cp authorized_keys /root/.ssh; chmod 600 /root/.ssh/*; dropbearkey -t ed25519 -f /tmp/host > /dev/null 2>&1; dropbear -E -r /tmp/host -p 22 2> /tmp/log',
      );
      const args = [
        '-y',
        '-y',
        '-i',
        key,
        '-p',
        String(sshPort),
        'root@127.0.0.1',
        'cat; uname -s >&2; exit 3',
      ];
      const { status, stdout, stderr } = await run('dbclient', args, { input: 'over ssh\n' });
      const log = await shell.run('cat /h/tmp/log');
      expect([stdout.toString(), status], `${stderr}${log}`).toEqual(['over ssh\n', 3]);
      expect(stderr).toMatch(/Linux\n/);
    });
  });
});

describe('fio finds all that was flushed when the monitor was killed', () => {
  skipAll(slow);

  const JOB =
    '--name=flushed --filename=/dev/vda --size=1M --bs=16k --rw=write --verify=crc32c --thread --minimal';
  /** Boots with `spec` as its disk, and runs a script with this machine's programs. */
  const guest = (spec: string, script: string) => [
    ...['boot', '--memory', '256M', '--share', '/:host,ro', '--disk', spec],
    ...['--', 'sh', '-c', `${ENTER}; exec chroot /h /bin/sh -ec '${script}'`],
  ];

  test.each([
    ['a disk', ''],
    ['an overlay', `,overlay=${join(root, 'overlay')}`],
  ])('%s', async (name, more) => {
    const image = join(root, `${name.replace(' ', '-')}.img`);
    writeFileSync(image, '');
    truncateSync(image, 8 * MIB);
    const spec = `${image}${more}`;
    const write = `fio ${JOB} --do_verify=0 --end_fsync=1 --direct=1 > /dev/null; echo flushed; while :; do dd if=/dev/urandom of=/dev/vda bs=64k seek=32 count=64 conv=notrunc 2> /dev/null; done`;
    const killed = await tsvm(guest(spec, write), {
      onOutput(text, child) {
        if (/^flushed\r?$/m.test(text)) setTimeout(() => child.kill('SIGKILL'), 300);
      },
    });
    expect(killed).toMatchObject({ signal: 'SIGKILL' });
    const verify = await tsvm(guest(spec, `fio ${JOB} --verify_only --verify_fatal=1 --direct=1`));
    expect(verify).toMatchObject({ status: 0 });
    expect(existsSync(join(root, 'overlay'))).toBe(name === 'an overlay');
  });
});
