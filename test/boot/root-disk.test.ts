/** Room to write to: roots that are full say so, and root disks. */
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { tsvm } from '../support/cli.js';
import { makeBusyboxRoot } from '../support/container.js';
import { interpreted, temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';
import { notHere } from '../support/skip-reasons.js';

const folder = temporaryDirectory();
const disks = join(folder, 'disks');
const env = {
  TSVM_DISK_DIR: disks,
  TSVM_RUN_DIR: join(folder, 'run'),
  TSVM_TEMPLATE_DIR: join(folder, 'templates'),
};
const run = (...args: string[]) => tsvm(['run', ...args], { env });
/** Kept names of disks: templates' blanks are left out. */
const kept = (): string[] => readdirSync(disks).filter((name) => !name.startsWith('blank-'));

/** Tens of MiB take a minute where the guest's kernel is interpreted. */
const slow = interpreted ? notHere('this KVM interprets the guest’s kernel') : undefined;

test('a root in memory that is full is ENOSPC to the command, which is not killed, and is said', async ({
  skip,
}) => {
  if (slow !== undefined) skip(slow);
  const { status, stderr } = await run(
    '--memory',
    '64M',
    'dd',
    'if=/dev/zero',
    'of=/big',
    'bs=1M',
    'count=200',
  );
  expect(status).toBe(1);
  expect(stderr).toMatch(/No space left on device/);
  expect(stderr).toMatch(/^tsvm: the root of the machine is full; --root-disk 4G gives it more$/m);
});

describe('a root disk', () => {
  // The same devices for all: one template.
  const own = join(folder, 'own.img');
  writeFileSync(own, Buffer.alloc(1 << 20, 'own disk '));
  const onDisk = (...args: string[]) => run('--root-disk', '1G', '--disk', `${own},ro`, ...args);

  test('takes what is written, from the template too; without a name it is thrown away', async () => {
    const script = 'df -P / | tail -1; ls -A /; echo x >/root/new; rm /init; ls /root /init';
    for (const round of ['first', 'second']) {
      const { status, stdout, stderr } = await onDisk('--', 'sh', '-c', script);
      expect(stderr, round).toMatch(/ls: \/init: No such file or directory\n$/);
      expect(stdout.toString()).toMatch(
        /^overlay +9\d{5} .* \/\n(bin\ndev\ninit\nmnt\nproc\nroot\nsys\n)\/root:\nnew\n$/,
      );
      expect(status).toBe(1);
      expect(kept()).toEqual([]);
    }
  });

  test('is kept with a name until that is forgotten, beside the disks that have theirs', async () => {
    const first = await onDisk('--name', 'box', '--', 'sh', '-c', 'echo kept >/root/a; head -c 8 /dev/vda');
    expect([first.status, first.stdout.toString()]).toEqual([0, 'own disk']);
    const second = await onDisk('--name', 'box', '--', 'cat', '/root/a');
    expect([second.status, second.stdout.toString()]).toEqual([0, 'kept\n']);
    const other = await run('--name', 'box', '--root-disk', '2G', '--', 'true');
    expect([other.status, other.stderr]).toEqual([2, expect.stringContaining('kept for box has 1 GiB')]);
    expect(kept()).toHaveLength(1);
    expect((await tsvm(['rm', 'box'], { env })).status).toBe(0);
    expect(kept()).toEqual([]);
  });
});

test('the name server of --net user replaces what the image has as resolv.conf, a link that leads nowhere', async ({
  skip,
}) => {
  const problem = passtProblem();
  if (problem !== undefined) skip(problem);
  const image = join(folder, 'image');
  makeBusyboxRoot(image);
  mkdirSync(join(image, 'etc'), { recursive: true });
  symlinkSync('../run/systemd/resolve/stub-resolv.conf', join(image, 'etc/resolv.conf'));
  const { stdout } = await run('--image', image, '--net', 'user', '--', 'cat', '/etc/resolv.conf');
  expect(stdout.toString()).toMatch(/^nameserver [\d.]+\n$/);
});
