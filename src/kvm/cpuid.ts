/** What a guest's CPUID instruction answers: KVM's list, made right for one vCPU of a machine. */

/** `struct kvm_cpuid_entry2`. */
export interface CpuidEntry {
  function: number;
  index: number;
  flags: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

const ENTRY_BYTES = 40;
const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;
const FIELDS = ['function', 'index', 'flags', 'eax', 'ebx', 'ecx', 'edx'] as const;

export function decodeCpuid(bytes: Uint8Array): CpuidEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: CpuidEntry[] = [];
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    entries.push(
      Object.fromEntries(
        FIELDS.map((field, i) => [field, view.getUint32(at + i * 4, true)]),
      ) as unknown as CpuidEntry,
    );
  }
  return entries;
}

export function encodeCpuid(entries: readonly CpuidEntry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  entries.forEach((entry, e) => {
    FIELDS.forEach((field, i) => {
      view.setUint32(e * ENTRY_BYTES + i * 4, entry[field], true);
    });
  });
  return bytes;
}

/** Leaf 1 ECX. */
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = (1 << 31) >>> 0;
/** Leaf 1 EDX: the package has more than one logical processor. */
const HTT = 1 << 28;

export interface VcpuTopology {
  /** The vCPU's number, which is its APIC id. */
  readonly apicId: number;
  /** vCPUs in the machine: one package, one thread a core. */
  readonly cpus: number;
  /** KVM_CAP_TSC_DEADLINE_TIMER. */
  readonly tscDeadline: boolean;
}

/**
 * KVM's supported list for one vCPU. The list carries the APIC id of the host core that it was read on, so every leaf that
 * holds one is set, for the first vCPU too; else the guest sends INIT to the wrong one.
 */
export function vcpuCpuid(supported: readonly CpuidEntry[], topology: VcpuTopology): CpuidEntry[] {
  const { apicId, cpus, tscDeadline } = topology;
  const apicIdBits = Math.ceil(Math.log2(cpus));
  const entries: CpuidEntry[] = [];
  for (const original of supported) {
    const entry = { ...original };
    switch (entry.function) {
      case 0x1:
        entry.ebx = ((entry.ebx & 0xffff) | ((cpus & 0xff) << 16) | (apicId << 24)) >>> 0;
        entry.ecx = (entry.ecx | HYPERVISOR | (tscDeadline ? TSC_DEADLINE : 0)) >>> 0;
        entry.edx = (cpus > 1 ? entry.edx | HTT : entry.edx & ~HTT) >>> 0;
        break;
      case 0x4:
        // Intel cache leaves: cores in the package in [31:26]; threads sharing the cache in [25:14], one but for L3.
        if ((entry.eax & 0x1f) !== 0) {
          const sharing = ((entry.eax >>> 5) & 7) >= 3 ? cpus - 1 : 0;
          entry.eax = ((entry.eax & 0x3fff) | (sharing << 14) | (Math.min(cpus - 1, 63) << 26)) >>> 0;
        }
        break;
      case 0xb:
      case 0x1f:
        continue; // written anew below
      case 0x8000_0008:
        entry.ecx = ((apicIdBits << 12) | (cpus - 1)) >>> 0;
        break;
      case 0x8000_001e:
        entry.eax = apicId;
        entry.ebx = apicId & 0xff; // core id; ThreadsPerCore - 1 = 0
        entry.ecx = 0;
        break;
    }
    entries.push(entry);
  }
  const maxBasic = entries.find((entry) => entry.function === 0)?.eax ?? 0;
  for (const leaf of [0xb, 0x1f]) {
    if (leaf > maxBasic) continue;
    const level = (index: number, eax: number, ebx: number, ecx: number): CpuidEntry => ({
      function: leaf,
      index,
      flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
      eax,
      ebx,
      ecx,
      edx: apicId,
    });
    entries.push(level(0, 0, 1, 0x100), level(1, apicIdBits, cpus, 0x201), level(2, 0, 0, 2));
  }
  return entries;
}

/** What CPUs have that do not say (Intel SDM, volume 3, 4.1.4). */
const DEFAULT_PHYSICAL_ADDRESS_BITS = 36;

/** MAXPHYADDR: how many bits of a guest physical address the vCPU with these entries can use. */
export function physicalAddressBits(cpuid: Uint8Array = new Uint8Array()): number {
  const bits = (decodeCpuid(cpuid).find((entry) => entry.function === 0x8000_0008)?.eax ?? 0) & 0xff;
  return bits === 0 ? DEFAULT_PHYSICAL_ADDRESS_BITS : bits;
}
