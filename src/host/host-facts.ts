/** What this host is, as far as the choice of a profile and `tsvm doctor` need to know. */
import { readdirSync, readFileSync } from 'node:fs';
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

/** Bytes of RAM in this host, and how many a new process could have without swapping. */
export function hostMemory(): { totalBytes: number; availableBytes: number } {
  let availableBytes = freemem();
  try {
    const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    if (match?.[1] !== undefined) availableBytes = Number(match[1]) * 1024;
  } catch {
    // no /proc: free memory is the lower bound that Node knows
  }
  return { totalBytes: totalmem(), availableBytes };
}
