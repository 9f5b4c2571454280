/** Refusals of a host that cannot run a machine: without KVM, the addon, or memory. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { HostTree } from '../../src/host/host-tree.js';
import { readKvmFacts } from '../../src/host/kvm/facts.js';
import { BARE_DEV, run, TSVM, tsvm } from '../support/cli.js';
import { HOST_FAILURE, refusals, USAGE } from '../support/refusals.js';
import { skipAll } from '../support/skip.js';
import { notHere, notRoot } from '../support/skip-reasons.js';

const { directory, timeline, powerOff: good, expectRefusal } = refusals();

describe('a host that', () => {
  skipAll(notRoot());

  // What the script before the command does is undone with its mount namespace.
  const boot = ['--kernel', good, '--memory', '4M'];
  const commandOnHost = (script: string, args: readonly string[], env: Record<string, string>) =>
    run('unshare', ['-m', 'bash', '-c', `${script} && exec "$@"`, 'bash', process.execPath, TSVM, ...args], {
      // A CI job is told other remedies.
      env: { CI: '', GITHUB_ACTIONS: '', ...env },
    });
  const onHost = (script: string, args: readonly string[] = boot, env: Record<string, string> = {}) =>
    commandOnHost(script, ['boot', ...args], env);

  test('has no /dev/kvm and no guest: a guest would be of no use', async () => {
    const booted = (args: readonly string[]) =>
      onHost(BARE_DEV, args, { TSVM_GUEST_DIR: join(directory, 'no-guests') });
    expectRefusal(await booted([]), HOST_FAILURE, /cannot open \/dev\/kvm/, /./);
    const image = await booted(['--disk', '/nowhere']);
    expectRefusal(image, USAGE, /cannot open disk \/nowhere: no such file/);
  });

  test('has no /dev/kvm: a process for machines says so, and waits for one', async () => {
    const env = { TSVM_RUN_DIR: join(directory, 'run') };
    const serving = commandOnHost(BARE_DEV, ['serve', '--name', 'pool'], env);
    const machines = async () => (await tsvm(['ps'], { env })).stdout.toString();
    await expect.poll(machines, { interval: 100, timeout: 60_000 }).toMatch(/pool +Serving/);
    expect((await tsvm(['stop', 'pool'], { env })).status).toBe(0);
    const { status, stderr } = await serving;
    expect(stderr).toMatch(
      /^tsvm: cannot open \/dev\/kvm: .*; each machine .* is refused until there is one\n/,
    );
    expect(status).toBe(0);
  }, 100_000);

  test('has no addon', async () => {
    const addon = join(TSVM, '../../../kvm-addon/build/Release/kvm_addon.node');
    const result = await onHost(`mount --bind /dev/null ${addon}`);
    expectRefusal(
      result,
      HOST_FAILURE,
      /the native addon cannot be loaded: .*kvm_addon\.node/,
      /build it: npm run build/,
    );
  });

  test('gives this process less memory than the machine shall have', async () => {
    // cgroup v2, else the memory controller of v1.
    const group = `tsvm-test-${process.pid}`;
    onTestFinished(
      async () => void (await run('bash', ['-c', `rmdir /sys/fs/cgroup/{,memory/}${group} 2>/dev/null`])),
    );
    const script = `
      root=/sys/fs/cgroup
      if [ -e $root/cgroup.controllers ]; then limit=memory.max; else root=$root/memory limit=memory.limit_in_bytes; fi
      group=$root/${group}
      mkdir $group && echo $((512 << 20)) > $group/$limit && echo $$ > $group/cgroup.procs`;
    const result = await onHost(script, ['--kernel', good, '--memory', '1G', '--timeline', timeline]);
    expectRefusal(result, USAGE, /memory: 1 GiB is more than .* \(512 MiB\)/, /--memory/);
  });

  describe('is no container,', () => {
    // There the remedies are the runtime's.
    const { container } = readKvmFacts(new HostTree(), { syscall: 'open', code: 'ENOENT' });
    skipAll(container === undefined ? undefined : notHere('this host is a container'));

    /** Files over this host's own, for the command alone. */
    const over = (files: Readonly<Record<string, string>>): string => {
      const binds = Object.entries(files).map(([path, text], i) => {
        const file = join(directory, `over-${i}`);
        writeFileSync(file, text);
        return `mount --bind ${file} ${path}`;
      });
      return [BARE_DEV, ...binds].join(' && ');
    };
    const noKvmIn = (flags: string): string =>
      over({
        '/proc/misc': ' 59 udmabuf\n',
        '/proc/cpuinfo': `vendor_id\t: GenuineIntel\nflags\t\t: ${flags}\n`,
      });
    const asNobody = 'set -- setpriv --reuid 65534 --regid 65534 --clear-groups "$@"';

    test('has no /dev/kvm, though its kernel has KVM', async () => {
      const result = await onHost(over({ '/proc/misc': '232 kvm\n' }));
      expectRefusal(result, HOST_FAILURE, /cannot open \/dev\/kvm: there is no such device here/, /mknod/);
    });

    test('has no KVM: its processor shows none, nested virtualization is off', async () => {
      const none = await onHost(noKvmIn('fpu'));
      expectRefusal(none, HOST_FAILURE, /the processor shows no virtualization/, /Intel VT-x/);
      const nested = await onHost(noKvmIn('fpu hypervisor'));
      expectRefusal(nested, HOST_FAILURE, /nested virtualization is off/, /./);
    });

    test('has another device at /dev/kvm', async () => {
      for (const numbers of ['10 199', '1 3']) {
        const result = await onHost(`${BARE_DEV} && mknod /dev/kvm c ${numbers}`);
        expectRefusal(result, HOST_FAILURE, /cannot open \/dev\/kvm: it is device/, /rm \/dev\/kvm && mknod/);
      }
    });

    test('has a file, a folder, or a link to nothing at /dev/kvm', async () => {
      for (const [make, kind] of [
        ['touch', /it is a regular file/],
        ['mkdir', /it is a folder/],
        ['ln -s nothing', /it is a link to nothing/],
      ] as const) {
        const result = await onHost(`${BARE_DEV} && ${make} /dev/kvm`);
        expectRefusal(result, HOST_FAILURE, kind, /rm -r \/dev\/kvm && mknod/);
      }
    });

    test('does not let this user open /dev/kvm: for root, for a group, on a mount without devices', async () => {
      chmodSync(directory, 0o755);
      const node = `${over({ '/etc/group': 'root:x:0:\nkvm:x:104:\n' })} && mknod /dev/kvm c 10 232 && chmod 660 /dev/kvm`;
      const root = await onHost(`${node} && ${asNobody}`);
      expectRefusal(
        root,
        HOST_FAILURE,
        /permission denied: it is for root alone \(root:root, mode 0660\)/,
        /chown root:kvm .* usermod/,
      );
      const group = await onHost(`${node} && chgrp 104 /dev/kvm && ${asNobody}`);
      expectRefusal(group, HOST_FAILURE, /permission denied: it is for group kvm/, /usermod -aG kvm /);
      const nodev = await onHost(
        `${node} && chmod 666 /dev/kvm && mount -o remount,nodev /dev && ${asNobody}`,
      );
      expectRefusal(nodev, HOST_FAILURE, /mounted nodev/, /--dev-bind/);
    });
  });
});
