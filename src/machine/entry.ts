/** Sets a vCPU's registers to where the boot loader wants it to begin. */
import type { EntryState, SegmentState } from '../boot/entry-state.js';
import { decodeRegs, decodeSregs, encodeRegs, encodeSregs, type Segment } from '../kvm/registers.js';
import type { NativeVcpu } from '../native/binding.js';

function segment(state: SegmentState): Segment {
  return { ...state, base: BigInt(state.base), avl: 0, unusable: 0 };
}

export function setEntryState(vcpu: NativeVcpu, state: EntryState): void {
  const sregs = decodeSregs(vcpu.getStruct('kvm_sregs'));
  for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) sregs[name] = segment(state.data);
  sregs.cs = segment(state.cs);
  sregs.tr = segment(state.tr);
  sregs.ldt = segment(state.ldt);
  sregs.gdt = { base: BigInt(state.gdt.base), limit: state.gdt.limit };
  sregs.idt = { base: BigInt(state.idt.base), limit: state.idt.limit };
  sregs.cr0 = BigInt(state.cr0);
  sregs.cr3 = BigInt(state.cr3);
  sregs.cr4 = BigInt(state.cr4);
  sregs.efer = BigInt(state.efer);
  vcpu.setStruct('kvm_sregs', encodeSregs(sregs));
  const regs = decodeRegs(new Uint8Array(vcpu.getStruct('kvm_regs').length));
  regs.rip = BigInt(state.rip);
  regs.rsi = BigInt(state.rsi);
  regs.rbx = BigInt(state.rbx);
  regs.rsp = BigInt(state.rsp);
  regs.rflags = BigInt(state.rflags);
  vcpu.setStruct('kvm_regs', encodeRegs(regs));
}
