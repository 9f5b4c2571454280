/**
 * The state of a VM in the kernel, but for its memory: read, set, and as text.
 *
 * KVM's structures are kept whole, in a snapshot as base64 of their bytes: they are KVM's business, versioned by its ABI, and what
 * must fit (the host's CPU, the profile) is checked by whoever reads a snapshot. A fork takes them over as they are.
 */
import { isErrnoError, TsvmError } from '../errors.js';
import type { NativeVcpu, VcpuStruct } from '../native/binding.js';
import { checkState } from '../util/state.js';
import { MSR_IA32_TSC } from './constants.js';
import { kvmCall } from './kvm.js';
import type { Vm } from './vm.js';

/** `kvm_fpu` is a part of `kvm_xsave`. */
type SavedStruct = Exclude<VcpuStruct, 'kvm_fpu'>;

/** State of a VM as KVM has it, for one VM or many. */
export interface VmState {
  readonly vcpus: readonly VcpuState[];
  /** PIC master, PIC slave, IOAPIC. */
  readonly irqchips: readonly [Uint8Array, Uint8Array, Uint8Array];
  readonly pit: Uint8Array;
  readonly clock: Uint8Array;
}

interface VcpuState {
  /** Packed `struct kvm_cpuid_entry2`. */
  readonly cpuid: Uint8Array;
  readonly structs: Readonly<Record<SavedStruct, Uint8Array>>;
  readonly msrIndices: Uint32Array;
  readonly msrValues: BigUint64Array;
}

/** A {@link VmState} as text. */
export interface SavedVmState {
  readonly vcpus: readonly SavedVcpuState[];
  readonly irqchips: readonly [string, string, string];
  readonly pit: string;
  readonly clock: string;
}

interface SavedVcpuState {
  readonly cpuid: string;
  readonly structs: Readonly<Record<SavedStruct, string>>;
  /** Pairs of index and value, the value in hexadecimal. */
  readonly msrs: readonly (readonly [index: number, value: string])[];
}

/**
 * In the order in which they are set. The local APIC needs the APIC base of sregs; MSRs come after it, or the TSC deadline
 * is lost and the guest sleeps for ever; events and MP state come last, since the others may change them.
 */
const BEFORE_IRQCHIP = ['kvm_sregs', 'kvm_xcrs', 'kvm_xsave', 'kvm_regs'] as const;
const AFTER_MSRS = ['kvm_debugregs', 'kvm_vcpu_events', 'kvm_mp_state'] as const;
const SAVED: readonly SavedStruct[] = [...BEFORE_IRQCHIP, 'kvm_lapic_state', ...AFTER_MSRS];

const IRQCHIPS = [0, 1, 2] as const;
/** struct kvm_clock_data: clock, flags, pad, realtime, host_tsc, pad. */
const CLOCK_FLAGS_OFFSET = 8;
/** More than a second of any CPU's time stamp counter. */
const FAR_TICKS = 1n << 40n;
/** struct kvm_cpuid_entry2. */
const CPUID_ENTRY_BYTES = 40;

const encode = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
const decode = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

/** @param msrIndices KVM_GET_MSR_INDEX_LIST. Every vCPU must be parked. */
export function saveVmState({ vcpus, handle }: Vm, msrIndices: Uint32Array): VmState {
  return kvmCall('save the machine', () => ({
    vcpus: vcpus.map((vcpu) => ({
      cpuid: vcpu.getCpuid(),
      structs: byStruct((name) => vcpu.getStruct(name)),
      ...readMsrs(vcpu, msrIndices),
    })),
    irqchips: byIrqchip((chip) => handle.getStruct('kvm_irqchip', chip)),
    pit: handle.getStruct('kvm_pit_state2'),
    clock: withoutFlags(handle.getStruct('kvm_clock_data')),
  }));
}

function byStruct<T>(make: (name: SavedStruct) => T): Record<SavedStruct, T> {
  return Object.fromEntries(SAVED.map((name) => [name, make(name)])) as Record<SavedStruct, T>;
}

const byIrqchip = <T>(make: (chip: (typeof IRQCHIPS)[number]) => T): [T, T, T] => [make(0), make(1), make(2)];

/** Clears the flags: with others KVM_SET_CLOCK refuses. */
function withoutFlags(clock: Uint8Array): Uint8Array {
  clock.fill(0, CLOCK_FLAGS_OFFSET);
  return clock;
}

/** Reads every MSR of the list that can be read; one call stops at the first that cannot. */
function readMsrs(vcpu: NativeVcpu, indices: Uint32Array): Pick<VcpuState, 'msrIndices' | 'msrValues'> {
  const readable: number[] = [];
  const read: bigint[] = [];
  for (let from = 0; from < indices.length; ) {
    const values = vcpu.getMsrs(indices.subarray(from));
    readable.push(...indices.subarray(from, from + values.length));
    read.push(...values);
    from += values.length + 1;
  }
  return { msrIndices: Uint32Array.from(readable), msrValues: BigUint64Array.from(read) };
}

export function encodeVmState({ vcpus, irqchips, pit, clock }: VmState): SavedVmState {
  return {
    vcpus: vcpus.map(({ cpuid, structs, msrIndices, msrValues }) => ({
      cpuid: encode(cpuid),
      structs: byStruct((name) => encode(structs[name])),
      msrs: Array.from(msrIndices, (index, i) => [index, (msrValues[i] as bigint).toString(16)] as const),
    })),
    irqchips: byIrqchip((chip) => encode(irqchips[chip])),
    pit: encode(pit),
    clock: encode(clock),
  };
}

/** @throws TsvmError `TSVM_STATE` if the state is not one of `cpus` vCPUs */
export function decodeVmState({ vcpus, irqchips, pit, clock }: SavedVmState, cpus: number): VmState {
  checkState(vcpus.length === cpus, `it has ${vcpus.length} vCPUs, not ${cpus}`);
  return {
    vcpus: vcpus.map(decodeVcpu),
    irqchips: byIrqchip((chip) => decode(irqchips[chip])),
    pit: decode(pit),
    clock: withoutFlags(decode(clock)),
  };
}

function decodeVcpu({ cpuid, structs, msrs }: SavedVcpuState, id: number): VcpuState {
  const entries = decode(cpuid);
  checkState(entries.length > 0 && entries.length % CPUID_ENTRY_BYTES === 0, `CPUID of vCPU ${id}`);
  return {
    cpuid: entries,
    structs: byStruct((name) => decode(structs[name])),
    msrIndices: Uint32Array.from(msrs, ([index]) => index),
    msrValues: BigUint64Array.from(msrs, ([, value]) => BigInt(`0x${value}`)),
  };
}

/** Sets the state of a VM that has not run, with as many vCPUs as `state` and their CPUID, and its memory in place. */
export function restoreVmState(vm: Vm, state: VmState): void {
  kvmCall('restore the machine', () => {
    vm.vcpus.forEach((vcpu, i) => {
      setStructs(vcpu, BEFORE_IRQCHIP, state.vcpus[i] as VcpuState);
    });
    for (const chip of IRQCHIPS) {
      checked(`interrupt controller ${chip}`, () =>
        vm.handle.setStruct('kvm_irqchip', state.irqchips[chip], chip),
      );
    }
    checked('the timer', () => vm.handle.setStruct('kvm_pit_state2', state.pit));
    checked('the clock', () => vm.handle.setStruct('kvm_clock_data', state.clock));
    vm.vcpus.forEach((vcpu, i) => {
      const saved = state.vcpus[i] as VcpuState;
      const tsc = i === 0 ? saved.msrValues[saved.msrIndices.indexOf(MSR_IA32_TSC)] : undefined;
      setStructs(vcpu, ['kvm_lapic_state'], saved);
      if (tsc !== undefined) moveTscAway(vcpu, tsc);
      writeMsrs(vcpu, saved);
      if (tsc !== undefined) checkTsc(vcpu, tsc);
      setStructs(vcpu, AFTER_MSRS, saved);
    });
  });
}

function setStructs(vcpu: NativeVcpu, names: readonly SavedStruct[], { structs }: VcpuState): void {
  for (const name of names) checked(`${name} of vCPU ${vcpu.id}`, () => vcpu.setStruct(name, structs[name]));
}

function checked(what: string, set: () => void): void {
  try {
    set();
  } catch (error) {
    // A RangeError of the addon's, or EINVAL of KVM's: not what a KVM has ever saved.
    checkState(!(error instanceof RangeError) && !isRefused(error), what);
    throw error;
  }
}

const isRefused = (error: unknown): boolean => isErrnoError(error) && error.code === 'EINVAL';

/** Those that KVM refuses are left as they are: some can be read and not written (0x10A on some hosts). */
function writeMsrs(vcpu: NativeVcpu, { msrIndices, msrValues }: VcpuState): void {
  for (let from = 0; from < msrIndices.length; )
    from += vcpu.setMsrs(msrIndices.subarray(from), msrValues.subarray(from)) + 1;
}

/** CPUs whose counters are not quite the same may read a value that was just set as less: some seconds' worth. */
const TSC_TOLERANCE = 1n << 33n;

/**
 * A value within a second of what a vCPU's counter would be anyway is not set (kvm_synchronize_tsc in arch/x86/kvm/x86.c: it
 * is taken for one of several vCPUs being brought in line). The counter of a new VM is about zero, so a guest that was saved
 * in its first second would be put back. The first vCPU's counter goes far away first; the others then fall in line with it.
 */
function moveTscAway(vcpu: NativeVcpu, tsc: bigint): void {
  vcpu.setMsrs(Uint32Array.of(MSR_IA32_TSC), BigUint64Array.of(BigInt.asUintN(64, tsc + FAR_TICKS)));
}

/**
 * A KVM that cannot set the guest's time stamp counter lets it see the host's, which starts anew when the host does. Forward
 * is no harm: time that passed. Backwards, the guest's clocks would stand still until it is there again.
 */
function checkTsc(vcpu: NativeVcpu, tsc: bigint): void {
  const [now] = vcpu.getMsrs(Uint32Array.of(MSR_IA32_TSC));
  if (now === undefined || now + TSC_TOLERANCE >= tsc) return;
  throw new TsvmError(
    'TSVM_SNAPSHOT',
    'it was saved before this host was started, and this KVM cannot set clocks back',
    {
      hint: 'save the machine again',
    },
  );
}

/** Tells guests that look for it (kvm-clock) that time they cannot account for is no stall. */
export function announceStandstill(vm: Vm): void {
  for (const vcpu of vm.vcpus) vcpu.kvmclockCtrl();
}
