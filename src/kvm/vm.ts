/** A VM in the kernel: memory, interrupt controllers, timer, vCPUs with their CPUID, in the order that is quick and works. */

import { isErrnoError } from '../errors.js';
import type { MemoryRegion } from '../memory/guest-memory.js';
import { KVM_IDENTITY_MAP_ADDR, KVM_TSS_ADDR, type RamRange } from '../memory/layout.js';
import type { NativeAddon, NativeKvm, NativeMemory, NativeVcpu, NativeVm } from '../native/binding.js';
import { GIB } from '../util/units.js';
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

/** The largest piece of RAM behind one memfd: Node 20 caps an external ArrayBuffer at 4 GiB. */
const MAX_REGION_BYTES = 2 * GIB;

/** MTRRdefType: enabled, write-back by default. Some kernels run uncached otherwise. */
const MTRR_ENABLE_WRITE_BACK = 0x806n;

/** LVT LINT0 and LINT1 in the local APIC page, and the delivery modes that a PC's firmware leaves in them. */
const APIC_LVT0 = 0x350;
const APIC_LVT1 = 0x360;
const APIC_MODE_EXTINT = 0x700;
const APIC_MODE_NMI = 0x400;

export interface VmOptions {
  readonly ram: readonly RamRange[];
  readonly cpus: number;
  /** Read-only memory beside the RAM: a firmware ROM. */
  readonly rom?: { readonly addr: number; readonly bytes: Uint8Array };
}

export interface Vm {
  readonly handle: NativeVm;
  readonly vcpus: readonly NativeVcpu[];
  /** RAM as mapped here, for `createGuestMemory`. */
  readonly regions: readonly MemoryRegion[];
  close(): void;
}

/**
 * Makes a VM whose vCPUs are ready to be given registers.
 *
 * @throws TsvmError `TSVM_KVM`, naming the call that failed; nothing is left behind.
 */
export function createVm(addon: NativeAddon, kvm: NativeKvm, options: VmOptions): Vm {
  const memories: NativeMemory[] = [];
  const handle = kvmCall('create a virtual machine', () => kvm.createVm());
  const close = (): void => {
    handle.close();
    for (const memory of memories) memory.close();
  };
  try {
    kvmCall('set up the virtual machine', () => {
      handle.setIdentityMapAddr(KVM_IDENTITY_MAP_ADDR);
      handle.setTssAddr(KVM_TSS_ADDR);
    });
    // Memory before the irqchip: a slot registered later costs milliseconds in the kernel (SRCU grace period).
    const regions: MemoryRegion[] = [];
    let slot = 0;
    const addMemory = (addr: number, sizeBytes: number, flags: number, name: string): Uint8Array => {
      const memory = addon.createMemory(sizeBytes, name);
      memories.push(memory);
      handle.setMemorySlot(slot++, flags, addr, sizeBytes, memory, 0);
      return new Uint8Array(memory.buffer);
    };
    kvmCall('give the machine its memory', () => {
      for (const range of options.ram) {
        for (let offset = 0; offset < range.length; offset += MAX_REGION_BYTES) {
          const length = Math.min(MAX_REGION_BYTES, range.length - offset);
          regions.push({
            addr: range.addr + offset,
            bytes: addMemory(range.addr + offset, length, 0, 'tsvm-ram'),
          });
        }
      }
      const { rom } = options;
      if (rom !== undefined)
        addMemory(rom.addr, rom.bytes.length, KVM_MEM_READONLY, 'tsvm-rom').set(rom.bytes);
    });
    kvmCall('create the interrupt controllers and timer', () => {
      handle.createIrqchip();
      handle.createPit2(KVM_PIT_SPEAKER_DUMMY);
    });
    const supported = decodeCpuid(kvm.supportedCpuid());
    const tscDeadline = kvm.checkExtension(KVM_CAP.KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    const vcpus: NativeVcpu[] = [];
    for (let id = 0; id < options.cpus; id++) {
      const vcpu = kvmCall(`create vCPU ${id}`, () => handle.createVcpu(id));
      vcpus.push(vcpu);
      kvmCall(`set up vCPU ${id}`, () => {
        vcpu.setCpuid(encodeCpuid(vcpuCpuid(supported, { apicId: id, cpus: options.cpus, tscDeadline })));
        setBootMsrs(vcpu);
        setBootLapic(vcpu);
      });
      openStats(vcpu);
    }
    return { handle, vcpus, regions, close };
  } catch (error) {
    close();
    throw error;
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
