// The tests on this host. In the rig they run bundled, without this file: test/run/lane.ts.
import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import { kvmProblem } from './test/support/kvm-problem.ts';

// Without a usable /dev/kvm the two tiers that need one shrink to a single, visibly skipped test.
const kvmTests = (pattern: string): string[] => [kvmProblem() ? 'test/support/no-kvm.test.ts' : pattern];

// The only tests that are tried twice, and only on kvm_pvm: there, programs in a guest that use AVX without asking glibc can compute
// wrong (docs/guest-kernels.md), which no change of tsvm's mends.
const retry = existsSync('/sys/module/kvm_pvm') ? 1 : 0;

export default defineConfig({
  test: {
    experimental: { fsModuleCache: true },
    projects: [
      {
        // Milliseconds each, but on a busy machine. A process for each file would cost as much as the tests.
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          isolate: false,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          testTimeout: 20_000,
          hookTimeout: 20_000,
        },
      },
      {
        // Needs what is built, and no KVM: refusals of the command line, the package.
        test: {
          name: 'host',
          include: ['test/host/**/*.test.ts'],
          sequence: { groupOrder: 2 },
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'kvm',
          include: kvmTests('test/kvm/**/*.test.ts'),
          sequence: { groupOrder: 3 },
          globalSetup: 'test/support/kvm-setup.ts',
          retry,
          testTimeout: 20_000,
          hookTimeout: 20_000,
        },
      },
      {
        // One guest at a time: their boots are timed out, and a machine with two cores runs one well.
        test: {
          name: 'boot',
          include: kvmTests('test/boot/**/*.test.ts'),
          sequence: { groupOrder: 4 },
          globalSetup: 'test/support/kvm-setup.ts',
          fileParallelism: false,
          retry,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Needs no KVM, but to be the superuser.
        test: {
          name: 'container',
          include: ['test/container/**/*.test.ts'],
          sequence: { groupOrder: 5 },
          fileParallelism: false,
          testTimeout: 20_000,
          hookTimeout: 20_000,
        },
      },
      {
        // Two rigs at a time, on two cores.
        test: {
          name: 'rig',
          include: ['test/rig/**/*.test.ts'],
          sequence: { groupOrder: 6 },
          maxConcurrency: 2,
          testTimeout: 120_000,
        },
      },
    ],
  },
});
