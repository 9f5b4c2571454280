/** The guest on Debian's own kernel, whose drivers are modules: what the default guest does. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { blk, createMachine, findGuest, type Machine, pmem, restoreMachine, share } from '../../src/index.js';
import { channelOf, textOf } from '../support/channel.js';
import { type CliResult, tsvm } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { ConsoleLog, interpreted, temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';
import { missing, notHere } from '../support/skip-reasons.js';

const built = await findGuest('debian').catch(() => undefined);
const problem = interpreted
  ? notHere('Debian’s kernel does not come to init within minutes where it is interpreted')
  : built === undefined
    ? missing('the guest "debian" (guests/build all debian)')
    : undefined;

/** Bound of its boot, which takes several times the default guest's, and in a busy rig several times that. */
const BOOT_MS = 240_000;

const root = temporaryDirectory();
const templates = join(root, 'templates');
const shared = join(root, 'shared');
const env = { TSVM_TEMPLATE_DIR: templates };
const sh = (script: string): string[] => ['--', 'sh', '-c', script];

/** Runs `script` in a machine that waits for its command. */
async function runIn(machine: Machine, script: string): Promise<{ status?: number; out: string }> {
  const channel = channelOf(machine);
  channel.stdin.end();
  channel.stderr.resume();
  channel.send({ argv: ['sh', '-c', script] });
  const [status, out] = await Promise.all([channel.exited, textOf(channel.stdout)]);
  return { ...(status === undefined ? {} : { status }), out };
}

describe('tsvm run --guest debian', () => {
  const images = (): string[] => ['--disk', `${built?.build.rootfs},ro`, '--pmem', `${built?.build.rootfs}`];
  const devices = (): string[] => [...images(), '--share', `${shared}:data`, '--rng', '--balloon'];
  const tsvmRun = (script: string): Promise<CliResult> =>
    tsvm(['run', '--guest', 'debian', ...devices(), '--vsock', join(root, 'v'), ...sh(script)], {
      env,
      timeoutMs: BOOT_MS,
    });

  test('makes a template, and its command’s output, status and devices are right; the next one starts from it; it forks', {
    timeout: 2 * BOOT_MS,
  }, async ({ skip }) => {
    skip(problem !== undefined, problem);
    mkdirSync(shared);
    writeFileSync(join(shared, 'note'), 'from the host\n');
    const first = await tsvmRun(
      `uname -r; mount -t virtiofs data /mnt && cat /mnt/note && echo reply >/mnt/reply
      mkdir /d /p && mount -t ext4 -o ro /dev/vda /d && mount -t ext4 -o ro,dax /dev/pmem0 /p && ls /d/bin/init /p/bin/init
      ls /dev/vsock; head -c 4 /dev/hwrng | wc -c
      ls /sys/bus/virtio/drivers/virtio_balloon | grep -c virtio
      echo err >&2; exit 3`,
    );
    expect(first.stdout.toString()).toBe(
      `${built?.build.version}\nfrom the host\n/d/bin/init\n/p/bin/init\n/dev/vsock\n4\n1\n`,
    );
    expect(first.stderr).toMatch(/^err$/m);
    expect(first.status).toBe(3);
    expect(readFileSync(join(shared, 'reply'), 'utf8')).toBe('reply\n');

    const second = await tsvmRun('echo again; echo err >&2; exit 4');
    expect([second.stdout.toString(), second.stderr, second.status]).toEqual(['again\n', 'err\n', 4]);

    const [key = ''] = readdirSync(templates).filter((name) => /^[0-9a-f]{16}$/.test(name));
    const path = built?.build.rootfs ?? '';
    const devices = [blk({ path, readOnly: true }), share({ path: shared, tag: 'data' }), pmem({ path })];
    await using parent = await restoreMachine(join(templates, key), { devices });
    await parent.start();
    const forks = await parent.fork(2);
    try {
      const said = forks.map((fork, i) => runIn(fork, `cat /proc/sys/kernel/osrelease; exit ${i + 5}`));
      const out = `${built?.build.version}\n`;
      expect(await Promise.all(said)).toEqual([
        { status: 5, out },
        { status: 6, out },
      ]);
    } finally {
      await Promise.all(forks.map((fork) => fork.kill()));
    }
  });
});

describe('tsvm boot --guest debian', () => {
  test('runs a command at a virtio console, on a network both ways, and exits with its status', {
    timeout: BOOT_MS,
  }, async ({ skip }) => {
    skip(problem !== undefined, problem);
    const noPasst = passtProblem();
    skip(noPasst !== undefined, noPasst);
    const forwarded = await freePort();
    // Answers with what the guest serves.
    await using server = createServer((_request, response) => {
      void fetch(`http://127.0.0.1:${forwarded}/page`)
        .then((page) => page.text())
        .then(
          (page) => response.end(page),
          () => response.destroy(),
        );
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const card = `user,loopback=yes,hostfwd=tcp:127.0.0.1:${forwarded}-:80`;
    const script = `uname -r; echo from the guest >/root/page; httpd -h /root
      wget -q -O - http://10.0.2.2:${port}/; exit 7`;
    const args = ['boot', '--guest', 'debian', '--console', 'virtio', '--net', card, ...sh(script)];
    const result = await tsvm(args, { timeoutMs: BOOT_MS });
    expect([result.stdout.toString(), result.stderr, result.status]).toEqual([
      `${built?.build.version}\nfrom the guest\n`,
      '',
      7,
    ]);
  });
});

test('copies of a guest without the channel are told so by the VM generation ID, and take new random numbers', {
  timeout: 2 * BOOT_MS,
}, async ({ skip }) => {
  skip(problem !== undefined, problem);
  const told = 'dmesg | grep -q "crng reseeded due to virtual machine fork"';
  const script = `echo up; read line; i=0; until ${told} || [ $i = 200 ]; do i=$((i + 1)); sleep 0.1; done
    read random </proc/sys/kernel/random/uuid; ${told}; echo "random $random status $?"`;
  const command = { argv: ['sh', '-c', script], tty: false };
  const machine = await createMachine({ ...(await findGuest('debian')), command });
  await using _ = machine;
  const booting = new ConsoleLog(machine);
  await machine.start();
  await booting.waitFor(/^up$/m, 0, BOOT_MS);
  const saved = join(root, 'saved');
  await machine.snapshot(saved);
  const copies = [await restoreMachine(saved), await restoreMachine(saved)];
  try {
    for (const copy of copies) await copy.start();
    copies.push(...(await copies[0]!.fork(1)));
    const random: string[] = [];
    for (const copy of copies) {
      const log = new ConsoleLog(copy);
      copy.console.write(Buffer.from('\n'));
      const [, number = '', status] = await log.waitFor(/random (\S+) status (\d+)/);
      expect(status).toBe('0');
      random.push(number);
    }
    expect(new Set(random).size).toBe(3);
  } finally {
    await Promise.all(copies.map((copy) => copy.kill()));
  }
});
