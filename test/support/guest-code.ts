/**
 * Tiny guests in machine code, run on the raw addon: no machine, no devices, no boot.
 *
 * They start in real mode at {@link CODE_ADDR} with every segment at base 0, except where a test says otherwise.
 */
import { createExitDecoder, type VcpuExit } from '../../src/kvm/exit.js';
import {
  decodeRegs,
  decodeSregs,
  encodeRegs,
  encodeSregs,
  type Regs,
  type Sregs,
} from '../../src/kvm/registers.js';
import {
  loadAddon,
  type NativeKvm,
  type NativeMemory,
  type NativeVcpu,
  type NativeVm,
} from '../../src/native/binding.js';

export const CODE_ADDR = 0x1000;
export const STACK_ADDR = 0xf000;
const MEMORY_BYTES = 0x8_0000;
const TSS_ADDR = 0xfffb_d000;
const IDENTITY_MAP_ADDR = 0xfffb_c000;

const low = (value: number): number => value & 0xff;
const high = (value: number): number => (value >>> 8) & 0xff;
const bytes32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** Instructions of 16-bit code (Intel SDM, volume 2). Jumps count from the next instruction. */
export const asm = {
  movAl: (value: number) => [0xb0, value],
  movEax: (value: number) => [0x66, 0xb8, ...bytes32(value)],
  movCx: (value: number) => [0xb9, low(value), high(value)],
  movDx: (value: number) => [0xba, low(value), high(value)],
  movSi: (value: number) => [0xbe, low(value), high(value)],
  movDi: (value: number) => [0xbf, low(value), high(value)],
  outDxAl: () => [0xee],
  outDxAx: () => [0xef],
  outDxEax: () => [0x66, 0xef],
  inAlDx: () => [0xec],
  inAxDx: () => [0xed],
  inEaxDx: () => [0x66, 0xed],
  /** out PORT, al */
  outAl: (port: number) => [0xe6, port],
  inAl: (port: number) => [0xe4, port],
  repOutsb: () => [0xf3, 0x6e],
  repInsb: () => [0xf3, 0x6c],
  /** mov es:[di], eax */
  storeEsDiEax: () => [0x26, 0x66, 0x89, 0x05],
  /** mov es:[di], al */
  storeEsDiAl: () => [0x26, 0x88, 0x05],
  /** mov eax, es:[di] */
  loadEaxEsDi: () => [0x26, 0x66, 0x8b, 0x05],
  /** mov al, es:[di] */
  loadAlEsDi: () => [0x26, 0x8a, 0x05],
  /** mov [di], al */
  storeDiAl: () => [0x88, 0x05],
  loop: (relative: number) => [0xe2, relative & 0xff],
  jmp: (relative: number) => [0xeb, relative & 0xff],
  /** jmp $ */
  hang: () => [0xeb, 0xfe],
  nop: () => [0x90],
  incAl: () => [0xfe, 0xc0],
  hlt: () => [0xf4],
  cli: () => [0xfa],
  sti: () => [0xfb],
  iret: () => [0xcf],
} as const;

/** Puts instructions together. */
export const code = (...parts: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(parts.flat());

/** An exit as a value of its own, valid after the vCPU runs on. */
export type ExitCopy = VcpuExit & { readonly error: number };

export interface TinyGuestOptions {
  readonly code?: Uint8Array;
  readonly cpus?: number;
  /** In-kernel PIC, IOAPIC and LAPICs; without them HLT reaches the addon. */
  readonly irqchip?: boolean;
  /** Base of ES, which is how 16-bit code reaches high addresses. */
  readonly esBase?: number;
  readonly slotFlags?: number;
}

/** One VM with a low memory slot, and a promise for each exit. */
export class TinyGuest {
  readonly kvm: NativeKvm;
  readonly vm: NativeVm;
  readonly memory: NativeMemory;
  readonly bytes: Uint8Array;
  readonly vcpus: NativeVcpu[] = [];
  readonly #waiting: ((exit: ExitCopy) => void)[] = [];

  constructor(options: TinyGuestOptions = {}) {
    const addon = loadAddon();
    this.kvm = addon.openKvm('/dev/kvm');
    this.vm = this.kvm.createVm();
    this.memory = addon.createMemory(MEMORY_BYTES, 'tiny-guest');
    this.bytes = new Uint8Array(this.memory.buffer);
    this.vm.setMemorySlot(0, options.slotFlags ?? 0, 0, MEMORY_BYTES, this.memory, 0);
    this.vm.setTssAddr(TSS_ADDR);
    this.vm.setIdentityMapAddr(IDENTITY_MAP_ADDR);
    if (options.irqchip) this.vm.createIrqchip();
    const supported = this.kvm.supportedCpuid();
    for (let id = 0; id < (options.cpus ?? 1); id++) {
      const vcpu = this.vm.createVcpu(id);
      vcpu.setCpuid(supported);
      const decode = createExitDecoder(vcpu.runPage);
      vcpu.onExit((error) => {
        const exit = decode();
        const copy = 'data' in exit ? { ...exit, data: exit.data.slice() } : { ...exit };
        const deliver = this.#waiting[id];
        if (deliver) deliver({ ...copy, error } as ExitCopy);
      });
      this.vcpus.push(vcpu);
    }
    this.sregs((sregs) => {
      for (const name of ['cs', 'ds', 'es', 'fs', 'gs', 'ss'] as const) {
        sregs[name].base = 0n;
        sregs[name].selector = 0;
      }
      sregs.es.base = BigInt(options.esBase ?? 0);
    });
    this.regs((regs) => {
      regs.rip = BigInt(CODE_ADDR);
      regs.rsp = BigInt(STACK_ADDR);
      regs.rflags = 2n;
    });
    if (options.code) this.load(CODE_ADDR, options.code);
  }

  get vcpu(): NativeVcpu {
    return this.vcpus[0]!;
  }

  load(addr: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, addr);
  }

  /** Points an entry of the real-mode interrupt vector table to `addr`, and puts the handler there. */
  handler(vector: number, addr: number, bytes: Uint8Array): void {
    this.load(vector * 4, Uint8Array.from([low(addr), high(addr), 0, 0]));
    this.load(addr, bytes);
  }

  regs(change?: (regs: Regs) => void, id = 0): Regs {
    const regs = decodeRegs(this.vcpus[id]!.getStruct('kvm_regs'));
    if (change) {
      change(regs);
      this.vcpus[id]!.setStruct('kvm_regs', encodeRegs(regs));
    }
    return regs;
  }

  sregs(change?: (sregs: Sregs) => void, id = 0): Sregs {
    const sregs = decodeSregs(this.vcpus[id]!.getStruct('kvm_sregs'));
    if (change) {
      change(sregs);
      this.vcpus[id]!.setStruct('kvm_sregs', encodeSregs(sregs));
    }
    return sregs;
  }

  /** Runs a vCPU to its next exit that reaches JavaScript. */
  run(id = 0): Promise<ExitCopy> {
    return new Promise((resolve) => {
      this.#waiting[id] = resolve;
      this.vcpus[id]!.run();
    });
  }

  /** The byte that a PIO read gets. */
  answer(value: number, id = 0): void {
    const page = new DataView(this.vcpus[id]!.runPage);
    const size = page.getUint8(33);
    const offset = page.getUint32(40, true);
    for (let i = 0; i < size; i++) page.setUint8(offset + i, (value / 2 ** (8 * i)) & 0xff);
  }

  /** The bytes that an MMIO read gets. */
  answerMmio(value: number, id = 0): void {
    new DataView(this.vcpus[id]!.runPage).setUint32(40, value, true);
  }

  close(): void {
    for (const vcpu of this.vcpus) vcpu.close();
    this.vm.close();
    this.memory.close();
    this.kvm.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const PAGE_TABLES_ADDR = 0x9000;

/** Puts the first vCPU into 64-bit mode with the first 2 MiB mapped to themselves, at {@link CODE_ADDR}. */
export function enterLongMode(guest: TinyGuest): void {
  const view = new DataView(guest.memory.buffer);
  view.setBigUint64(PAGE_TABLES_ADDR, BigInt(PAGE_TABLES_ADDR + 0x1000) | 3n, true);
  view.setBigUint64(PAGE_TABLES_ADDR + 0x1000, BigInt(PAGE_TABLES_ADDR + 0x2000) | 3n, true);
  view.setBigUint64(PAGE_TABLES_ADDR + 0x2000, 0x83n, true); // present, writable, 2 MiB
  guest.sregs((sregs) => {
    sregs.cr3 = BigInt(PAGE_TABLES_ADDR);
    sregs.cr4 |= 1n << 5n; // PAE
    sregs.efer |= 0x500n; // LME, LMA
    sregs.cr0 |= 0x8000_0001n; // PG, PE
    const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1, avl: 0, unusable: 0 };
    sregs.cs = { ...flat, selector: 8, type: 11, db: 0, l: 1 };
    for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) {
      sregs[name] = { ...flat, selector: 16, type: 3, db: 1, l: 0 };
    }
  });
}
