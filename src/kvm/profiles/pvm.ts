/**
 * The `kvm_pvm` host: a KVM without VT-x or SVM that runs the guest's ring 3 natively and interprets its ring 0 with the
 * instruction emulator of KVM. What the emulator cannot do is masked by kernel parameters or done here by hand:
 *
 * - `int3` and `fwait` in ring 0 end in KVM_EXIT_INTERNAL_ERROR;
 * - SYSCALL in ring 3 jumps to LSTAR but leaves CPL 3, so the guest takes a page fault there. A breakpoint on the guest's
 *   page fault handler finds these faults, and the SYSCALL is completed. (Breakpoints work in interpreted code only,
 *   which a ring-0 handler is.)
 */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { Gpa } from '../../memory/layout.js';
import type { NativeVcpu } from '../../native/binding.js';
import {
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_USE_HW_BP,
  KVM_INTERNAL_ERROR_EMULATION,
  MSR_LSTAR,
  MSR_STAR,
  MSR_SYSCALL_MASK,
} from '../constants.js';
import type { VcpuExit } from '../exit.js';
import { encodeSegment, regsOffset, SREGS_IDT_OFFSET, segmentOffset } from '../registers.js';
import type { ExitAssist, HostProfile } from './profile.js';

export const pvm: HostProfile = {
  name: 'pvm',
  summary:
    'kvm_pvm: the guest kernel is interpreted (about a million instructions a second), user code runs natively',
  detect: (facts) => facts.kvmModules.includes('kvm_pvm'),
  // The guest sees the hardware's CPUID bits in some leaves although KVM_GET_SUPPORTED_CPUID does not list them, and the
  // emulator cannot execute what they promise.
  // String instructions are interpreted element by element: with FSRM and ERMS the kernel moves bytes, without them words.
  // Write-protecting the kernel's text costs the interpreter a million instructions.
  // tick_stretch and fault_around_bytes are the default guest's (guests/kernel/default/patches); other kernels ignore them.
  // The time stamp counter is the host's and cannot be set: by it, a restored guest's clocks would jump by the time that it was
  // saved, and the kernel would account for every second of it.
  kernelParameters: [
    'noxsave',
    'clearcpuid=smap,cx16,popcnt,fsrm,erms',
    'rodata=off',
    'tick_stretch=10',
    'fault_around_bytes=16384',
    'clocksource=kvm-clock',
  ],
  limitations: [
    'booting takes seconds, because the guest kernel is interpreted',
    '32-bit system calls (int 0x80) do not work in guests',
  ],
  createAssist: (vcpus, memory) => new PvmAssist(vcpus, memory),
};

const PAGE_FAULT_VECTOR = 14;
const BREAKPOINT_VECTOR = 3;
const IDT_ENTRY_BYTES = 16;
/** DR7: breakpoint 0 enabled globally, on execution. */
const DR7_EXECUTE_0 = 0x402n;
/** Page fault error code of an instruction fetch from user mode of a page that is present: P, U/S, I/D. */
const SYSCALL_FAULT_CODE = 0x15n;

const RSP = regsOffset('rsp');
const RIP = regsOffset('rip');
const RFLAGS = regsOffset('rflags');
const RFLAGS_FIXED = 2n;
const RFLAGS_DF = 1n << 10n;
const RFLAGS_RF = 1n << 16n;
const RFLAGS_AC = 1n << 18n;

/** Where the guest takes page faults and system calls: the same for all its vCPUs once it has set up its IDT. */
interface GuestEntry {
  readonly pageFaultHandler: bigint;
  readonly pageFaultHandlerAddr: Gpa;
  readonly lstar: bigint;
  readonly star: bigint;
  readonly syscallMask: bigint;
}

class PvmAssist implements ExitAssist {
  readonly #vcpus: readonly NativeVcpu[];
  readonly #memory: GuestMemory;
  #entry: GuestEntry | undefined;
  readonly #armed: boolean[];
  /** By vCPU: the stack pointer at which faults from ring 3 arrive, and where that is in guest memory. */
  readonly #entryStacks: ({ rsp: bigint; addr: Gpa } | undefined)[];

  constructor(vcpus: readonly NativeVcpu[], memory: GuestMemory) {
    this.#vcpus = vcpus;
    this.#memory = memory;
    this.#armed = vcpus.map(() => false);
    this.#entryStacks = vcpus.map(() => undefined);
  }

  resume(vcpu: NativeVcpu): void {
    this.#arm(vcpu);
  }

  handle(vcpu: NativeVcpu, exit: VcpuExit): boolean {
    if (!this.#armed[vcpu.id]) this.#arm(vcpu);
    switch (exit.kind) {
      case 'debug':
        return this.#breakpoint(vcpu, exit.pc);
      case 'internal-error':
        return (
          exit.suberror === KVM_INTERNAL_ERROR_EMULATION && this.#refusedInstruction(vcpu, exit.instruction)
        );
      default:
        return false;
    }
  }

  /** Puts the breakpoint on the guest's page fault handler as soon as there is one and LSTAR is set. */
  #arm(vcpu: NativeVcpu): void {
    if (this.#entry === undefined) {
      this.#entry = this.#findEntry(vcpu);
      if (this.#entry === undefined) return;
      // The others share the IDT. One that is running comes back with KVM_EXIT_INTR and is armed then.
      for (const other of this.#vcpus) if (other !== vcpu && other.running) other.kick();
    }
    vcpu.setGuestDebug(
      KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
      BigUint64Array.of(this.#entry.pageFaultHandler, 0n, 0n, 0n, 0n, 0n, 0n, DR7_EXECUTE_0),
    );
    this.#armed[vcpu.id] = true;
  }

  #findEntry(vcpu: NativeVcpu): GuestEntry | undefined {
    const [star, lstar, syscallMask] = vcpu.getMsrs(Uint32Array.of(MSR_STAR, MSR_LSTAR, MSR_SYSCALL_MASK));
    if (star === undefined || lstar === undefined || syscallMask === undefined || lstar === 0n)
      return undefined;
    const sregs = vcpu.getStruct('kvm_sregs');
    const idt = new DataView(sregs.buffer, sregs.byteOffset).getBigUint64(SREGS_IDT_OFFSET, true);
    const gateAddr = vcpu.translate(idt + BigInt(PAGE_FAULT_VECTOR * IDT_ENTRY_BYTES));
    if (gateAddr === undefined || !this.#memory.holdsWhole(gateAddr, IDT_ENTRY_BYTES)) return undefined;
    const pageFaultHandler =
      BigInt(this.#memory.readU16(gateAddr)) |
      (BigInt(this.#memory.readU16(gateAddr + 6)) << 16n) |
      (BigInt(this.#memory.readU32(gateAddr + 8)) << 32n);
    const pageFaultHandlerAddr = vcpu.translate(pageFaultHandler);
    if (pageFaultHandlerAddr === undefined || !this.#memory.holdsWhole(pageFaultHandlerAddr, 4))
      return undefined;
    return { pageFaultHandler, pageFaultHandlerAddr, lstar, star, syscallMask };
  }

  #breakpoint(vcpu: NativeVcpu, pc: bigint): boolean {
    const entry = this.#entry;
    if (entry === undefined || pc !== entry.pageFaultHandler) return false;
    const regs = vcpu.getStruct('kvm_regs');
    const view = new DataView(regs.buffer, regs.byteOffset, regs.byteLength);
    const frame = this.#userFaultFrame(vcpu, view.getBigUint64(RSP, true));
    if (frame !== undefined && this.#isSyscallFault(frame, entry)) {
      this.#completeSyscall(vcpu, regs, view, frame, entry);
      return true;
    }
    return this.#stepOverFirstInstruction(vcpu, regs, view, entry);
  }

  /** The stacked exception frame if the fault came from ring 3: error code, RIP, CS, RFLAGS, RSP, SS. */
  #userFaultFrame(vcpu: NativeVcpu, rsp: bigint): Gpa | undefined {
    const known = this.#entryStacks[vcpu.id];
    if (known?.rsp === rsp) return known.addr;
    const addr = vcpu.translate(rsp);
    if (addr === undefined || !this.#memory.holdsWhole(addr, 48)) return undefined;
    if ((this.#memory.readU16(addr + 16) & 3) !== 3) return undefined;
    // Faults from ring 3 all start on the entry stack of TSS.RSP0, so RSP is the same each time.
    this.#entryStacks[vcpu.id] = { rsp, addr };
    return addr;
  }

  #isSyscallFault(frame: Gpa, entry: GuestEntry): boolean {
    const word = (index: number) => readU64(this.#memory, frame + index * 8);
    return word(0) === SYSCALL_FAULT_CODE && word(1) === entry.lstar && (word(2) & 3n) === 3n;
  }

  /** What SYSCALL does (AMD64 manual, volume 3): RCX and R11 are set already. */
  #completeSyscall(vcpu: NativeVcpu, regs: Uint8Array, view: DataView, frame: Gpa, entry: GuestEntry): void {
    const stackedFlags = readU64(this.#memory, frame + 24);
    view.setBigUint64(RSP, readU64(this.#memory, frame + 32), true);
    view.setBigUint64(RIP, entry.lstar, true);
    view.setBigUint64(RFLAGS, (stackedFlags & ~entry.syscallMask & ~RFLAGS_RF) | RFLAGS_FIXED, true);
    const sregs = vcpu.getStruct('kvm_sregs');
    const sregsView = new DataView(sregs.buffer, sregs.byteOffset, sregs.byteLength);
    const selector = Number((entry.star >> 32n) & 0xfffcn);
    const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1, avl: 0, unusable: 0 };
    encodeSegment(sregsView, segmentOffset('cs'), { ...flat, selector, type: 0xb, db: 0, l: 1 });
    encodeSegment(sregsView, segmentOffset('ss'), {
      ...flat,
      selector: selector + 8,
      type: 0x3,
      db: 1,
      l: 0,
    });
    vcpu.setStruct('kvm_sregs', sregs);
    vcpu.setStruct('kvm_regs', regs);
  }

  /** Goes on behind the breakpoint, which KVM would report again. The first instruction is one that is easily done here. */
  #stepOverFirstInstruction(vcpu: NativeVcpu, regs: Uint8Array, view: DataView, entry: GuestEntry): boolean {
    const code = this.#memory.readU32(entry.pageFaultHandlerAddr);
    const rflags = view.getBigUint64(RFLAGS, true);
    let length: number;
    if (code === 0xfa1e_0ff3) {
      length = 4; // endbr64
    } else if ((code & 0xff_ffff) === 0x00_1f0f) {
      length = 3; // nopl (%rax)
    } else if ((code & 0xff_ffff) === 0xca_010f) {
      length = 3; // clac
      view.setBigUint64(RFLAGS, rflags & ~RFLAGS_AC, true);
    } else if ((code & 0xff) === 0xfc) {
      length = 1; // cld
      view.setBigUint64(RFLAGS, rflags & ~RFLAGS_DF, true);
    } else if ((code & 0xff) === 0x90) {
      length = 1; // nop
    } else {
      return false;
    }
    view.setBigUint64(RIP, entry.pageFaultHandler + BigInt(length), true);
    vcpu.setStruct('kvm_regs', regs);
    return true;
  }

  /** An instruction that the emulator refused. */
  #refusedInstruction(vcpu: NativeVcpu, reported: Uint8Array): boolean {
    const regs = vcpu.getStruct('kvm_regs');
    const view = new DataView(regs.buffer, regs.byteOffset, regs.byteLength);
    const rip = view.getBigUint64(RIP, true);
    const opcode = reported[0] ?? this.#codeByte(vcpu, rip);
    switch (opcode) {
      case 0xcc: {
        // int3: the trap is taken behind the instruction.
        const events = vcpu.getStruct('kvm_vcpu_events');
        events.set([1, BREAKPOINT_VECTOR, 0, 0], 0); // exception: injected, number, no error code, not pending
        view.setBigUint64(RIP, rip + 1n, true);
        vcpu.setStruct('kvm_regs', regs);
        vcpu.setStruct('kvm_vcpu_events', events);
        return true;
      }
      case 0x9b: // fwait: nothing waits in ring 0
        view.setBigUint64(RIP, rip + 1n, true);
        vcpu.setStruct('kvm_regs', regs);
        return true;
      default:
        return false;
    }
  }

  #codeByte(vcpu: NativeVcpu, rip: bigint): number | undefined {
    const addr = vcpu.translate(rip);
    return addr !== undefined && this.#memory.holdsWhole(addr, 1) ? this.#memory.readU8(addr) : undefined;
  }
}

function readU64(memory: GuestMemory, addr: Gpa): bigint {
  return BigInt(memory.readU32(addr)) | (BigInt(memory.readU32(addr + 4)) << 32n);
}
