/** Tests that need a KVM, on a machine without /dev/kvm. */
import { expect, test } from 'vitest';
import { BARE_DEV, run } from '../support/cli.js';
import { notRoot } from '../support/skip-reasons.js';

/** Runs the kvm tier in a mount namespace whose /dev has no kvm. */
const kvmTier = (env: Record<string, string>) =>
  run(
    'unshare',
    [
      ...['-m', 'bash', '-c', `${BARE_DEV} && exec "$@"`, 'bash'],
      ...[process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--project', 'kvm'],
    ],
    { env: { TSVM_REQUIRE_KVM: '', ...env } },
  );

test('without /dev/kvm the tiers that need it are skipped, loudly; TSVM_REQUIRE_KVM=1 makes that a failure', async ({
  skip,
}) => {
  skip(notRoot() !== undefined, notRoot());
  const skipped = await kvmTier({});
  expect(skipped.status, skipped.stdout.toString() + skipped.stderr).toBe(0);
  expect(skipped.stderr).toContain('cannot open /dev/kvm: ENOENT: the kvm and boot tests are SKIPPED here.');
  expect(skipped.stdout.toString()).toMatch(/1 skipped/);
  const required = await kvmTier({ TSVM_REQUIRE_KVM: '1' });
  expect(required.status).not.toBe(0);
  expect(required.stdout.toString() + required.stderr).toContain('TSVM_REQUIRE_KVM=1 is set');
});
