/** Root disks: what is written to a root goes there, and is kept with a name. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tsvm } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';

const folder = temporaryDirectory();
const disks = join(folder, 'disks');
const env = {
  TSVM_DISK_DIR: disks,
  TSVM_RUN_DIR: join(folder, 'run'),
  TSVM_TEMPLATE_DIR: join(folder, 'templates'),
};
/** Names of disks that are kept: templates' blanks are left out. */
const kept = (): string[] => readdirSync(disks).filter((name) => !name.startsWith('blank-'));

/** Time for the template's boot and four machines, which takes half a minute where nothing else runs and the kernel is interpreted. */
const TIMEOUT_MS = 300_000;

const own = join(folder, 'own.img');
writeFileSync(own, Buffer.alloc(1 << 20, 'own disk '));
const hasNetwork = passtProblem() === undefined;
/** The same devices for all: one template. */
const DEVICES = ['--root-disk', '1G', '--disk', `${own},ro`, ...(hasNetwork ? ['--net', 'user'] : [])];

const run = async (options: readonly string[], script: string) => {
  const result = await tsvm(['run', ...DEVICES, ...options, '--', 'sh', '-c', script], { env });
  return { ...result, stdout: result.stdout.toString() };
};

test('a root disk takes what is written and is kept with a name until that is forgotten, beside disks that keep theirs', {
  timeout: TIMEOUT_MS,
}, async () => {
  const written = await run(
    ['--name', 'box'],
    'df -P / | tail -1; ls -A /; head -c 8 /dev/vda; rm /init; echo kept >/root/a; mkdir -p /etc; ln -sf /nowhere /etc/resolv.conf',
  );
  expect(written.stdout, written.stderr).toMatch(
    /^overlay +9\d{5} .* \/\nagent\nbin\ndev\n(etc\n)?init\nmnt\nproc\nroot\nsys\nown disk$/,
  );
  expect(written.status).toBe(0);

  // A link that leads nowhere is no name server, and is replaced.
  const again = await run(['--name', 'box'], 'cat /root/a; ls /init; cat /etc/resolv.conf');
  expect(again.stdout, again.stderr).toMatch(hasNetwork ? /^kept\nnameserver [\d.]+\n$/ : /^kept\n$/);
  expect(again.stderr).toMatch(/^ls: \/init: No such file or directory$/m);

  const other = await tsvm(['run', '--name', 'box', '--root-disk', '2G', '--', 'true'], { env });
  expect([other.status, other.stderr]).toEqual([2, expect.stringContaining('kept for box has 1 GiB')]);
  expect(kept()).toHaveLength(1);
  expect((await tsvm(['rm', 'box'], { env })).status).toBe(0);
  expect(kept()).toEqual([]);

  // Without a name it is another, of which nothing is left.
  expect((await run([], 'ls -A /root; echo x >/root/b')).stdout).toBe('');
  expect(kept()).toEqual([]);
});
