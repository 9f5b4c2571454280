/** What a benchmark is: one file exports one, and benchmarks.ts lists them. */
import type { Guest } from '../../src/index.js';

/** What the benchmarks may know of the machine that they run on. */
export interface BenchHost {
  /** Whether /dev/kvm is usable. */
  readonly kvm: boolean;
  /** The host profile that tsvm chooses here: `none` where the guest's kernel runs on the CPU itself. */
  readonly profile: string;
  /** The default guest, if it was built. */
  readonly guest: Guest | undefined;
  /** QEMU, to compare with. */
  readonly qemu: boolean;
}

/** One line of the table: what was measured, and every sample of it. */
export interface Measurement {
  readonly metric: string;
  readonly unit: string;
  readonly samples: readonly number[];
  /** The median must be at most (or at least) this. */
  readonly target?: { readonly atMost: number } | { readonly atLeast: number };
  readonly note?: string;
}

export interface BenchContext {
  readonly host: BenchHost;
  /** Samples to take, where a benchmark takes samples. */
  readonly runs: number;
  /** A directory for files of the run's own, removed afterwards. */
  readonly scratch: string;
  /** Progress, on stderr. */
  log(text: string): void;
}

export interface Benchmark {
  readonly name: string;
  readonly summary: string;
  /** How many samples are worth their time here. */
  defaultRuns(host: BenchHost): number;
  /** Why it cannot run on this host. */
  unfit(host: BenchHost): string | undefined;
  run(context: BenchContext): Promise<readonly Measurement[]>;
}

/** For benchmarks that boot the default guest. */
export function needsGuest(host: BenchHost): string | undefined {
  if (!host.kvm) return 'needs /dev/kvm';
  return host.guest === undefined ? 'needs the default guest: tsvm guest build' : undefined;
}

/** For those that boot it with QEMU as well. */
export function needsQemuBeside(host: BenchHost): string | undefined {
  return (
    needsGuest(host) ??
    (host.profile === 'pvm' ? 'no other monitor boots Linux on this KVM' : undefined) ??
    (host.qemu ? undefined : 'needs qemu-system-x86_64')
  );
}
