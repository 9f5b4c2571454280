import { kvmProblem } from './kvm-problem.js';

/** Global set-up of the tiers that need /dev/kvm: says so when it is not there; TSVM_REQUIRE_KVM=1 makes it a failure. */
export function setup(): void {
  const problem = kvmProblem();
  if (problem === undefined) return;
  if (process.env['TSVM_REQUIRE_KVM'] === '1') {
    const error = new Error(`${problem}, and TSVM_REQUIRE_KVM=1 is set`);
    // Vitest (4.1, with its module cache) fails to map the frames of a cached set-up, and prints that failure instead.
    error.stack = error.message;
    throw error;
  }
  const rule = '!'.repeat(72);
  process.stderr.write(
    `\n${rule}\n!! ${problem}: the kvm and boot tests are SKIPPED here.\n` +
      `!! Run them in the emulated KVM: npm test -- rig\n${rule}\n\n`,
  );
}
