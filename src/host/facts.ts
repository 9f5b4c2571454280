/** Facts of this host, as far as the choice of a profile and `tsvm doctor` need to know. */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import type { HostFacts } from '../kvm/profiles/profile.js';

/** Reads the loaded KVM modules from /sys/module, which lists built-in ones too. */
export function readHostFacts(): HostFacts {
  let modules: string[];
  try {
    modules = readdirSync('/sys/module');
  } catch {
    modules = []; // no /sys: a bare chroot; the default profile is right for all but exotic hosts
  }
  return { kvmModules: modules.filter((name) => name.startsWith('kvm')).sort() };
}

/** Bytes of RAM that this process may have in this host, and how many a new process could have without swapping. */
export function hostMemory(): { totalBytes: number; availableBytes: number } {
  let availableBytes = freemem();
  try {
    const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    if (match?.[1] !== undefined) availableBytes = Number(match[1]) * 1024;
  } catch {
    // no /proc: free memory is the lower bound that Node knows
  }
  // What a cgroup allows, if it is less. Without a limit Node gives 0, or more than there is.
  const limitBytes = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return {
    totalBytes: Math.min(totalmem(), limitBytes),
    availableBytes: Math.min(availableBytes, limitBytes),
  };
}

/** Facts of the host's CPU that a guest sees, or may, in the words of /proc/cpuinfo. */
export interface CpuFacts {
  readonly vendor: string;
  readonly family: string;
  readonly model: string;
  readonly name: string;
  /** Separated by blanks. */
  readonly flags: string;
}

/** The first CPU's; the others are alike. Empty strings where the kernel does not say. */
export function readCpu(): CpuFacts {
  const file = openSync('/proc/cpuinfo', 'r');
  try {
    // The kernel writes one CPU after the other: the first is enough, and there may be hundreds.
    const buffer = Buffer.alloc(8192);
    const text = buffer.toString('latin1', 0, readSync(file, buffer));
    const field = (name: string): string => cpuField(text, name) ?? '';
    return {
      vendor: field('vendor_id'),
      family: field('cpu family'),
      model: field('model'),
      name: field('model name'),
      flags: field('flags'),
    };
  } finally {
    closeSync(file);
  }
}

/** Value of a field of the first CPU in /proc/cpuinfo's text. */
export function cpuField(cpuinfo: string, name: string): string | undefined {
  return new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1];
}
