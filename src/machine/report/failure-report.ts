/** Report for the operator when a KVM cannot go on with a guest. */
import type { VcpuExit } from '../../kvm/exit.js';
import { decodeRegs, decodeSregs, formatRegs } from '../../kvm/registers.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { NativeVcpu } from '../../native/binding.js';

const INSTRUCTION_BYTES = 16;

/** One line that says what happened. */
export function failureSummary(
  vcpu: NativeVcpu,
  exit: VcpuExit | undefined,
  errno: number,
  memory: GuestMemory | undefined,
): string {
  if (exit === undefined) return `KVM_RUN of vCPU ${vcpu.id} failed with errno ${errno}`;
  switch (exit.kind) {
    case 'internal-error':
      return exit.suberror === 1
        ? `this host's KVM cannot execute the guest's instruction ${hex(exit.instruction.length > 0 ? exit.instruction : codeAt(vcpu, memory))} at 0x${rip(vcpu).toString(16)}`
        : `KVM reports an internal error, suberror ${exit.suberror}, on vCPU ${vcpu.id}`;
    case 'fail-entry':
      return `KVM cannot enter the guest on vCPU ${vcpu.id}: hardware reason 0x${exit.reason.toString(16)}`;
    case 'debug':
      return `vCPU ${vcpu.id} stopped at a breakpoint that nobody set, at 0x${exit.pc.toString(16)}`;
    case 'other':
      return `vCPU ${vcpu.id} stopped with exit reason ${exit.reason}, which tsvm does not know`;
    default:
      return `vCPU ${vcpu.id} stopped: ${exit.kind}`;
  }
}

/** Registers, for a report. Empty if they cannot be had. */
export function registerReport(vcpu: NativeVcpu): string {
  try {
    const sregs = decodeSregs(vcpu.getStruct('kvm_sregs'));
    const control = (['cr0', 'cr2', 'cr3', 'cr4', 'efer'] as const).map(
      (name) => `${name}=${sregs[name].toString(16)}`,
    );
    return `${formatRegs(decodeRegs(vcpu.getStruct('kvm_regs')))}\n${control.join(' ')} cs=${sregs.cs.selector.toString(16)}`;
  } catch {
    return '';
  }
}

function rip(vcpu: NativeVcpu): bigint {
  return decodeRegs(vcpu.getStruct('kvm_regs')).rip;
}

function codeAt(vcpu: NativeVcpu, memory: GuestMemory | undefined): Uint8Array {
  const { cs } = decodeSregs(vcpu.getStruct('kvm_sregs'));
  const addr = vcpu.translate(rip(vcpu) + (cs.l === 1 ? 0n : cs.base));
  return addr !== undefined && memory?.contains(addr, INSTRUCTION_BYTES) === true
    ? memory.read(addr, INSTRUCTION_BYTES)
    : new Uint8Array(0);
}

function hex(bytes: Uint8Array): string {
  return bytes.length === 0
    ? '(unreadable)'
    : Buffer.from(bytes)
        .toString('hex')
        .replace(/(..)(?=.)/g, '$1 ');
}
