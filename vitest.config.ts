import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import { kvmProblem } from './test/support/kvm-problem.ts';

// Without a usable /dev/kvm the two tiers that need one shrink to a single, visibly skipped test.
const kvmTests = (pattern: string): string[] => [kvmProblem() ? 'test/support/no-kvm.test.ts' : pattern];

// Under emulation (test/rig) everything takes some ten times longer, a new process for each file most of all.
const inRig = process.env['TSVM_RIG'] === '1';
const scale = inRig ? 5 : 1;
// Time passes there while code is translated, for the guest as for the test: what fails once is tried once more.
const retry = inRig ? 1 : 0;
// On kvm_pvm, programs in a guest that use AVX without asking glibc can compute wrong (docs/guest-kernels.md).
const guestRetry = inRig || existsSync('/sys/module/kvm_pvm') ? 1 : 0;

export default defineConfig({
  test: {
    // Where each file has a rig of its own, most of its time would go into transforming the same modules again.
    experimental: { fsModuleCache: true },
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'] } },
      {
        test: {
          name: 'kvm',
          isolate: !inRig,
          include: kvmTests('test/kvm/**/*.test.ts'),
          globalSetup: 'test/support/kvm-setup.ts',
          retry: guestRetry,
          testTimeout: 20_000 * scale,
          hookTimeout: 20_000 * scale,
        },
      },
      {
        // One guest at a time: their boots are timed out, and a machine with two cores runs one well.
        test: {
          name: 'boot',
          isolate: !inRig,
          sequence: { groupOrder: 1 },
          include: kvmTests('test/boot/**/*.test.ts'),
          globalSetup: 'test/support/kvm-setup.ts',
          fileParallelism: false,
          retry: guestRetry,
          testTimeout: inRig ? 300_000 : 120_000,
          hookTimeout: inRig ? 300_000 : 120_000,
        },
      },
      {
        // Needs what is built, and no KVM: refusals of the command line, shared folders, the package.
        test: {
          name: 'host',
          sequence: { groupOrder: 3 },
          include: ['test/host/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Needs no KVM, but to be the superuser.
        test: {
          name: 'container',
          isolate: !inRig,
          sequence: { groupOrder: 2 },
          include: ['test/container/**/*.test.ts'],
          fileParallelism: false,
          retry,
          testTimeout: 20_000 * scale,
          hookTimeout: 20_000 * scale,
        },
      },
      {
        test: {
          name: 'rig',
          include: ['test/rig/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
        },
      },
    ],
  },
});
