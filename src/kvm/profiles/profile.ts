/** Host profiles: what some KVM needs beside the API to run a guest well. Detected, shown by `tsvm doctor`, overridable. */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { NativeVcpu } from '../../native/binding.js';
import type { VcpuExit } from '../exit.js';

/** What detection looks at; read by host/. */
export interface HostFacts {
  /** Names of loaded or built-in kernel modules whose name starts with `kvm`. */
  readonly kvmModules: readonly string[];
}

/** Looks at every exit before the machine does. */
export interface ExitAssist {
  /** True if the exit was dealt with and the vCPU may run on. */
  handle(vcpu: NativeVcpu, exit: VcpuExit): boolean;
  /** The vCPU got the state of one that ran before, and is about to go on. */
  resume?(vcpu: NativeVcpu): void;
}

export interface HostProfile {
  readonly name: string;
  readonly summary: string;
  detect(facts: HostFacts): boolean;
  /** Added to the guest kernel's command line. */
  readonly kernelParameters: readonly string[];
  /** What users of such a host must know. */
  readonly limitations: readonly string[];
  createAssist?(vcpus: readonly NativeVcpu[], memory: GuestMemory): ExitAssist;
}
