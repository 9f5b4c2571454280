/** The guest on Debian's own kernel, whose drivers are modules: what the default guest does. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { blk, findGuest, type Machine, pmem, restoreMachine, share } from '../../src/index.js';
import { type CliResult, tsvm } from '../support/cli.js';
import { interpreted, temporaryDirectory } from '../support/guest.js';
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

async function textOf(stream: Readable): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

/** Runs `script` in a machine that waits for its command. */
async function runIn({ channel }: Machine, script: string): Promise<{ status?: number; out: string }> {
  if (channel === undefined) throw new Error('no channel');
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
      await Promise.all(forks.map((fork) => fork.stop()));
    }
  });
});

describe('tsvm boot --guest debian', () => {
  test('runs a command at a virtio console, and exits with its status', { timeout: BOOT_MS }, async ({
    skip,
  }) => {
    skip(problem !== undefined, problem);
    const args = ['boot', '--guest', 'debian', '--console', 'virtio'];
    const result = await tsvm([...args, ...sh('uname -r; exit 7')], { timeoutMs: BOOT_MS });
    expect(result.stdout.toString()).toBe(`${built?.build.version}\n`);
    expect(result.status).toBe(7);
  });
});
