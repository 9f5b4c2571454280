/** Where and on what a run was made: without this a figure means nothing. */
import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { readHostFacts } from '../../src/host/facts.js';
import { findGuest, type Guest } from '../../src/index.js';
import { detectProfile } from '../../src/kvm/profiles/registry.js';
import type { BenchHost } from './benchmark.js';

/** The labels of a run. No host name: a machine is what it consists of. */
export interface Environment {
  readonly date: string;
  readonly command: string;
  readonly commit: string | undefined;
  readonly machine: string;
  readonly kvm: string;
  readonly profile: string;
  readonly hostKernel: string;
  readonly node: string;
  readonly guest: string | undefined;
  /** One-minute load average before the first benchmark: above 0 means that the machine was shared. */
  readonly loadBefore: number;
}

export async function inspectHost(): Promise<BenchHost> {
  const guest: Guest | undefined = await findGuest().catch(() => undefined);
  return {
    kvm: usable('/dev/kvm'),
    profile: detectProfile(readHostFacts()).name,
    guest,
    qemu: spawnSync('qemu-system-x86_64', ['--version']).status === 0,
  };
}

export function describeEnvironment(host: BenchHost, command: string): Environment {
  return {
    date: new Date().toISOString().slice(0, 10),
    command,
    commit: gitCommit(),
    machine: `${availableParallelism()} CPUs (${cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB`,
    kvm: kvmModule(),
    profile: host.profile,
    hostKernel: release(),
    node: process.version,
    guest:
      host.guest === undefined
        ? undefined
        : `${host.guest.build.name} (Linux ${host.guest.build.version}, ${host.guest.build.key})`,
    loadBefore: loadavg()[0] ?? 0,
  };
}

export function formatEnvironment(environment: Environment): string {
  return Object.entries(environment)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}`)
    .join('\n');
}

function kvmModule(): string {
  const module = readHostFacts().kvmModules.find((name) => name !== 'kvm');
  const emulated =
    process.env['TSVM_RIG'] === undefined ? '' : ', in a machine that QEMU TCG emulates (test/rig)';
  return (module ?? 'kvm') + emulated;
}

function usable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function gitCommit(): string | undefined {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return undefined; // not a checkout
  }
}
