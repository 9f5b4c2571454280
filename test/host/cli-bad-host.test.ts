/** What `tsvm boot` says on a host that cannot run a machine: without KVM, the addon, or memory. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { run, TSVM } from '../support/cli.js';
import { HOST_FAILURE, refusals, USAGE } from '../support/refusals.js';
import { skipAll } from '../support/skip.js';
import { notRoot } from '../support/skip-reasons.js';

const { directory, timeline, powerOff: good, expectRefusal } = refusals();

describe('a host that', () => {
  skipAll(notRoot());

  // The command sees a /dev of its own; what the script before it does is undone with its mount namespace.
  const bare = 'mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9';
  const boot = ['--kernel', good, '--memory', '4M'];
  const onHost = (script: string, args: readonly string[] = boot, env: Record<string, string> = {}) =>
    run(
      'unshare',
      ['-m', 'bash', '-c', `${script} && exec "$@"`, 'bash', process.execPath, TSVM, 'boot', ...args],
      { env },
    );

  test('has no /dev/kvm', async () => {
    const result = await onHost(bare);
    expectRefusal(
      result,
      HOST_FAILURE,
      /cannot open \/dev\/kvm: there is no such device/,
      /kvm_intel or kvm_amd/,
    );
  });

  test('has no /dev/kvm and no guest: a guest would be of no use', async () => {
    const run = (command: readonly string[]) =>
      onHost(bare, command, { TSVM_GUEST_DIR: join(directory, 'no-guests') });
    expectRefusal(await run([]), HOST_FAILURE, /cannot open \/dev\/kvm/, /kvm_intel or kvm_amd/);
    const image = await run(['--disk', '/nowhere']);
    expectRefusal(image, USAGE, /cannot open disk \/nowhere: no such file/);
  });

  test('has a /dev/kvm with nothing behind it', async () => {
    const result = await onHost(`${bare} && mknod /dev/kvm c 10 199`);
    expectRefusal(result, HOST_FAILURE, /cannot open \/dev\/kvm: no KVM behind it/, /kvm_intel or kvm_amd/);
  });

  test('has something else at /dev/kvm', async () => {
    const result = await onHost(`${bare} && mknod /dev/kvm c 1 3`);
    expectRefusal(result, HOST_FAILURE, /\/dev\/kvm is not a KVM/, /kvm/);
  });

  test('does not let this user open /dev/kvm', async () => {
    chmodSync(directory, 0o755);
    const script = `${bare} && mknod -m 600 /dev/kvm c 10 232 && set -- setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`;
    const result = await onHost(script);
    expectRefusal(result, HOST_FAILURE, /cannot open \/dev\/kvm: permission denied/, /group/);
  });

  test('has no addon', async () => {
    const addon = join(TSVM, '../../../kvm-addon/build/Release/kvm_addon.node');
    const result = await onHost(`mount --bind /dev/null ${addon}`);
    expectRefusal(
      result,
      HOST_FAILURE,
      /kvm_addon\.node cannot be loaded/,
      /cmake-js@8 compile -d kvm-addon/,
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
});
