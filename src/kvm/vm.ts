/** A VM in the kernel: memory, interrupt controllers, timer, vCPUs with their CPUID, in the order that is quick and works. */

import { randomBytes } from 'node:crypto';
import { isErrnoError } from '../errors.js';
import { type Gpa, KVM_IDENTITY_MAP_ADDR, KVM_TSS_ADDR, type RamRange } from '../memory/layout.js';
import type { NativeAddon, NativeKvm, NativeMemory, NativeVcpu, NativeVm } from '../native/binding.js';
import {
  KVM_CAP,
  KVM_MEM_READONLY,
  KVM_PIT_SPEAKER_DUMMY,
  MSR_IA32_MISC_ENABLE,
  MSR_IA32_MISC_ENABLE_FAST_STRING,
  MSR_MTRR_DEF_TYPE,
} from './constants.js';
import { decodeCpuid, encodeCpuid, vcpuCpuid } from './cpuid.js';
import { kvmCall } from './kvm.js';
import { Ram } from './ram.js';

/** MTRRdefType: enabled, write-back by default. Some kernels run uncached otherwise. */
const MTRR_ENABLE_WRITE_BACK = 0x806n;

/** LVT LINT0 and LINT1 in the local APIC page, and the delivery modes that a PC's firmware leaves in them. */
const APIC_LVT0 = 0x350;
const APIC_LVT1 = 0x360;
const APIC_MODE_EXTINT = 0x700;
const APIC_MODE_NMI = 0x400;

/** A VM generation ID. */
const GENERATION_BYTES = 16;

export interface VmOptions {
  readonly ram: readonly RamRange[];
  readonly cpus: number;
  /** Read-only memory beside the RAM: a firmware ROM. */
  readonly rom?: { readonly addr: number; readonly bytes: Uint8Array };
  /** By vCPU: what CPUID answers there (packed `struct kvm_cpuid_entry2`). Default: what this KVM supports. */
  readonly cpuid?: readonly Uint8Array[];
  /** A file under the RAM was truncated. */
  onMemoryLost?(): void;
}

export interface Vm {
  readonly handle: NativeVm;
  readonly vcpus: readonly NativeVcpu[];
  readonly ram: Ram;
  /** By vCPU: what CPUID answers there. */
  readonly cpuid: readonly Uint8Array[];
  /** Random bytes, which no other VM has. Drawn here, since a VM may be made before its machine, which is to start within a millisecond. */
  readonly generation: Uint8Array;
  /** Gives the guest memory beside its RAM. It stays the caller's to close, when the guest runs no more. */
  addReadOnlyMemory(memory: Ram): void;
  /** From now on `close` leaves guest memory mapped: something may still write to it. */
  keepMemory(): void;
  close(): void;
}

/**
 * Makes a VM with empty memory whose vCPUs are as reset leaves them.
 *
 * @throws TsvmError `TSVM_KVM`, naming the call that failed; nothing is left behind.
 */
export function createVm(addon: NativeAddon, kvm: NativeKvm, options: VmOptions): Vm {
  const handle = kvmCall('create a virtual machine', () => kvm.createVm());
  let ram: Ram | undefined;
  let rom: NativeMemory | undefined;
  let slots = 0;
  const addSlot = (addr: Gpa, memory: NativeMemory, flags: number): void =>
    handle.setMemorySlot(slots++, flags, addr, memory.sizeBytes, memory, 0);
  let memoryKept = false;
  const close = (): void => {
    handle.close();
    if (memoryKept) return;
    ram?.close();
    rom?.close();
  };
  try {
    kvmCall('set up the virtual machine', () => {
      handle.setIdentityMapAddr(KVM_IDENTITY_MAP_ADDR);
      handle.setTssAddr(KVM_TSS_ADDR);
    });
    // Memory before the irqchip: a slot registered later costs milliseconds in the kernel (SRCU grace period).
    ram = kvmCall('give the machine its memory', () => new Ram(addon, options.ram, options.onMemoryLost));
    kvmCall('give the machine its memory', () => {
      for (const { addr, memory } of ram?.regions ?? []) addSlot(addr, memory, 0);
      if (options.rom === undefined) return;
      const { addr, bytes } = options.rom;
      rom = addon.createMemory(bytes.length, 'tsvm-rom');
      new Uint8Array(rom.buffer).set(bytes);
      addSlot(addr, rom, KVM_MEM_READONLY);
    });
    kvmCall('create the interrupt controllers and timer', () => {
      handle.createIrqchip();
      handle.createPit2(KVM_PIT_SPEAKER_DUMMY);
    });
    const cpuid = options.cpuid ?? hostCpuid(kvm, options.cpus);
    const vcpus: NativeVcpu[] = [];
    for (let id = 0; id < options.cpus; id++) {
      const vcpu = kvmCall(`create vCPU ${id}`, () => handle.createVcpu(id));
      vcpus.push(vcpu);
      kvmCall(`set up vCPU ${id}`, () => vcpu.setCpuid(cpuid[id] as Uint8Array));
      openStats(vcpu);
    }
    const addReadOnlyMemory = (memory: Ram): void => {
      for (const region of memory.regions) addSlot(region.addr, region.memory, KVM_MEM_READONLY);
    };
    const keepMemory = (): void => {
      memoryKept = true;
    };
    const generation = randomBytes(GENERATION_BYTES);
    return { handle, vcpus, ram, cpuid, generation, addReadOnlyMemory, keepMemory, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** What this KVM supports, for each vCPU of a machine. Milliseconds, where CPUID is itself emulated. */
function hostCpuid(kvm: NativeKvm, cpus: number): Uint8Array[] {
  const supported = decodeCpuid(kvm.supportedCpuid());
  const tscDeadline = kvm.checkExtension(KVM_CAP.KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  return Array.from({ length: cpus }, (_, apicId) =>
    encodeCpuid(vcpuCpuid(supported, { apicId, cpus, tscDeadline })),
  );
}

/** What firmware would have left behind in every vCPU. For guests that are booted. */
export function setBootState(vm: Vm): void {
  for (const vcpu of vm.vcpus) {
    kvmCall(`set up vCPU ${vcpu.id}`, () => {
      setBootMsrs(vcpu);
      setBootLapic(vcpu);
    });
  }
}

/** MSRs that firmware would have left set. A KVM that refuses one simply keeps its default. */
function setBootMsrs(vcpu: NativeVcpu): void {
  vcpu.setMsrs(Uint32Array.of(MSR_IA32_MISC_ENABLE), BigUint64Array.of(MSR_IA32_MISC_ENABLE_FAST_STRING));
  vcpu.setMsrs(Uint32Array.of(MSR_MTRR_DEF_TYPE), BigUint64Array.of(MTRR_ENABLE_WRITE_BACK));
}

/**
 * Opens the vCPU's statistics while it is at rest. KVM_GET_STATS_FD takes the vCPU's lock: asked for later, it would wait
 * until the vCPU leaves the guest, which one that sleeps never does. Reading them takes no lock.
 */
function openStats(vcpu: NativeVcpu): void {
  try {
    vcpu.readStats();
  } catch (error) {
    if (!isErrnoError(error)) throw error; // Linux before 5.14 has none
  }
}

/** Virtual wire mode (MP specification 1.4, 3.6.2.2): the PIC on LINT0, NMI on LINT1. */
function setBootLapic(vcpu: NativeVcpu): void {
  const lapic = vcpu.getStruct('kvm_lapic_state');
  const view = new DataView(lapic.buffer, lapic.byteOffset, lapic.byteLength);
  view.setUint32(APIC_LVT0, APIC_MODE_EXTINT, true);
  view.setUint32(APIC_LVT1, APIC_MODE_NMI, true);
  vcpu.setStruct('kvm_lapic_state', lapic);
}
