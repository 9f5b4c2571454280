/**
 * Kernels of a few instructions, as ELF files: they boot at once on any KVM, and end as a test wants them to.
 *
 * Their code runs where Linux's 64-bit entry does: ring 0, long mode, memory identity-mapped, interrupts off, no IDT.
 */

const LOAD_ADDR = 0x10_0000;
const EHDR_BYTES = 64;
const PHDR_BYTES = 56;

const MARK_PORT = 0x5f0;
const EXIT_STATUS_PORT = 0x5f1;
const SLEEP_CONTROL_PORT = 0x600;
const SLEEP_S5 = 0x34;
const SERIAL_PORT = 0x3f8;
const I8042_COMMAND_PORT = 0x64;
const I8042_PULSE_RESET = 0xfe;

const bytes16 = (value: number): number[] => [value & 0xff, value >>> 8];
const bytes32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const bytes64 = (value: number): number[] => [
  ...bytes32(value % 0x1_0000_0000),
  ...bytes32(value / 0x1_0000_0000),
];

/** mov dx, PORT; mov al, VALUE; out dx, al */
const out = (port: number, value: number): number[] => [0x66, 0xba, ...bytes16(port), 0xb0, value, 0xee];

/** Pieces of machine code for {@link tinyKernel}. */
export const tiny = {
  mark: (code: number) => out(MARK_PORT, code),
  exitStatus: (status: number) => out(EXIT_STATUS_PORT, status),
  powerOff: () => out(SLEEP_CONTROL_PORT, SLEEP_S5),
  reset: () => out(I8042_COMMAND_PORT, I8042_PULSE_RESET),
  print: (text: string) => [...Buffer.from(text, 'latin1')].flatMap((byte) => out(SERIAL_PORT, byte)),
  /** A jump to memory that nothing maps, without an IDT to take the fault. mov eax, 0xfffffff0; dec rax; jmp rax */
  tripleFault: () => [0x48, 0xc7, 0xc0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xe0],
  /** hlt; jmp back: stops for good, as interrupts are off. */
  sleep: () => [0xf4, 0xeb, 0xfd],
  /** jmp $ */
  spin: () => [0xeb, 0xfe],
  /**
   * Writes ever higher numbers to the MARK port, 64 at most: each with a pause of `rounds` of a loop.
   * mov al, 0; mov ecx, ROUNDS; dec ecx; jnz -4; inc al; and al, 63; out dx, al; jmp to the mov
   */
  countMarks: (rounds: number) => {
    const body = [
      ...[0xb9, rounds & 0xff, (rounds >>> 8) & 0xff, (rounds >>> 16) & 0xff, rounds >>> 24],
      ...[0xff, 0xc9, 0x75, 0xfc],
      ...[0xfe, 0xc0, 0x24, 0x3f, 0xee],
    ];
    return [0x66, 0xba, ...bytes16(MARK_PORT), 0xb0, 0, ...body, 0xeb, 256 - body.length - 2];
  },
} as const;

/** Instructions of 64-bit code (Intel SDM, volume 2), for what {@link tiny} has no word for. */
export const asm64 = {
  movEax: (value: number) => [0xb8, ...bytes32(value)],
  movEcx: (value: number) => [0xb9, ...bytes32(value)],
  movEdx: (value: number) => [0xba, ...bytes32(value)],
  movEsi: (value: number) => [0xbe, ...bytes32(value)],
  movEdi: (value: number) => [0xbf, ...bytes32(value)],
  movRdi: (value: number) => [0x48, 0xbf, ...bytes64(value)],
  outDxAl: () => [0xee],
  outDxAx: () => [0x66, 0xef],
  outDxEax: () => [0xef],
  inAlDx: () => [0xec],
  inAxDx: () => [0x66, 0xed],
  inEaxDx: () => [0xed],
  repOutsb: () => [0xf3, 0x6e],
  repOutsd: () => [0xf3, 0x6f],
  repInsb: () => [0xf3, 0x6c],
  repMovsb: () => [0xf3, 0xa4],
  /** mov [rdi], al; ax; eax; rax */
  storeAl: () => [0x88, 0x07],
  storeAx: () => [0x66, 0x89, 0x07],
  storeEax: () => [0x89, 0x07],
  storeRax: () => [0x48, 0x89, 0x07],
  /** mov al, [rdi]; ax; eax; rax */
  loadAl: () => [0x8a, 0x07],
  loadAx: () => [0x66, 0x8b, 0x07],
  loadEax: () => [0x8b, 0x07],
  loadRax: () => [0x48, 0x8b, 0x07],
  /** lidt [rdi] */
  lidt: () => [0x0f, 0x01, 0x1f],
  /** mov cr3, rax */
  movCr3Rax: () => [0x0f, 0x22, 0xd8],
  int3: () => [0xcc],
  hlt: () => [0xf4],
  cli: () => [0xfa],
  sti: () => [0xfb],
  iretq: () => [0x48, 0xcf],
  /** jmp, to so many bytes from the next instruction */
  jmp: (relative: number) => [0xe9, ...bytes32(relative)],
  /** Prints the lowest `count` bytes of RAX as they are. mov rdx, PORT; (out dx, al; shr rax, 8) * count */
  printRax: (count: number) => [
    0xba,
    ...bytes32(SERIAL_PORT),
    ...Array.from({ length: count }, () => [0xee, 0x48, 0xc1, 0xe8, 8]).flat(),
  ],
} as const;

/** Code with itself as the body of a loop that never ends. */
export const forever = (...parts: readonly (readonly number[])[]): number[] => {
  const body = parts.flat();
  return [...body, ...asm64.jmp(-(body.length + 5))];
};

/** One run of bytes out of pieces at offsets from its start; the code at 0 comes first. */
export function place(pieces: Readonly<Record<number, readonly number[] | Uint8Array>>): number[] {
  const length = Math.max(...Object.entries(pieces).map(([at, bytes]) => Number(at) + bytes.length));
  const image = new Uint8Array(length);
  for (const [at, bytes] of Object.entries(pieces)) image.set(bytes, Number(at));
  return [...image];
}

/** Address at which {@link tinyKernel} puts the byte at this offset. */
export const addrOf = (offset: number): number => LOAD_ADDR + offset;

const PAGE_TABLES_OFFSET = 0x1_0000;
const MAPPED_GIB = 8;

/** Page tables for {@link place} that map the first 8 GiB to themselves, device memory too; and the code that loads them. */
export const wideMap = {
  code: [...asm64.movEax(addrOf(PAGE_TABLES_OFFSET)), ...asm64.movCr3Rax()],
  pieces(): Record<number, Uint8Array> {
    const tables = new Uint8Array((2 + MAPPED_GIB) * 0x1000);
    const view = new DataView(tables.buffer);
    const entry = (at: number, addr: number, flags: number): void =>
      view.setBigUint64(at, BigInt(addr) | BigInt(flags), true);
    const base = addrOf(PAGE_TABLES_OFFSET);
    entry(0, base + 0x1000, 0x23);
    for (let gib = 0; gib < MAPPED_GIB; gib++) {
      entry(0x1000 + gib * 8, base + (2 + gib) * 0x1000, 0x23);
      for (let i = 0; i < 512; i++) {
        entry((2 + gib) * 0x1000 + i * 8, gib * 0x4000_0000 + i * 0x20_0000, 0xe3); // present to dirty, 2 MiB
      }
    }
    return { [PAGE_TABLES_OFFSET]: tables };
  },
};

const IDT_OFFSET = 0x8000;
const IDT_OPERAND_OFFSET = 0x7ff0;
const BOOT_CS = 0x10;

/** An IDT for {@link place} with these handlers, by vector; and the code that loads it. */
export const idt = {
  code: [...asm64.movEdi(addrOf(IDT_OPERAND_OFFSET)), ...asm64.lidt()],
  pieces(handlers: Readonly<Record<number, number>>): Record<number, Uint8Array> {
    const table = new Uint8Array(0x1000);
    const view = new DataView(table.buffer);
    for (const [vector, offset] of Object.entries(handlers)) {
      const at = Number(vector) * 16;
      view.setUint16(at, addrOf(offset) & 0xffff, true);
      view.setUint16(at + 2, BOOT_CS, true);
      view.setUint16(at + 4, 0x8e00, true); // interrupt gate, present
      view.setUint16(at + 6, addrOf(offset) >>> 16, true);
    }
    const operand = new Uint8Array(10);
    new DataView(operand.buffer).setUint16(0, 0xfff, true);
    new DataView(operand.buffer).setUint32(2, addrOf(IDT_OFFSET), true);
    return { [IDT_OPERAND_OFFSET]: operand, [IDT_OFFSET]: table };
  },
};

const PIC_COMMAND = 0x20;
const PIC_DATA = 0x21;
/** IRQ 0 of the PIC after {@link pic}. */
export const PIC_VECTOR = 0x20;

/** The master PIC, set up with only these IRQs let through; and the end of an interrupt. */
export const pic = {
  init: (...irqs: readonly number[]) => [
    ...out(PIC_COMMAND, 0x11), // ICW1: edges, cascade, ICW4 follows
    ...out(PIC_DATA, PIC_VECTOR),
    ...out(PIC_DATA, 4),
    ...out(PIC_DATA, 1), // ICW4: 8086 mode
    ...out(
      PIC_DATA,
      irqs.reduce((mask, irq) => mask & ~(1 << irq), 0xff),
    ),
    ...out(0xa1, 0xff),
  ],
  endOfInterrupt: () => out(PIC_COMMAND, 0x20),
};

/** Any port write of one byte. */
export const outByte = out;

/** Fields that a lying or damaged ELF file may have instead of the truth. */
export interface ElfLies {
  readonly loadAddr?: number;
  readonly memoryBytes?: number;
  readonly fileBytes?: number;
  readonly entry?: number;
  readonly machine?: number;
}

/** An ELF file with one segment at 1 MiB, which is `code`. */
export function tinyKernel(code: readonly number[], lies: ElfLies = {}): Uint8Array {
  const codeAt = EHDR_BYTES + PHDR_BYTES;
  const image = Buffer.alloc(codeAt + code.length);
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELF, 64-bit, little-endian
  image.writeUInt16LE(2, 16); // ET_EXEC
  image.writeUInt16LE(lies.machine ?? 62, 18); // EM_X86_64
  image.writeUInt32LE(1, 20);
  image.writeBigUInt64LE(BigInt(lies.entry ?? lies.loadAddr ?? LOAD_ADDR), 24);
  image.writeBigUInt64LE(BigInt(EHDR_BYTES), 32);
  image.writeUInt16LE(EHDR_BYTES, 52);
  image.writeUInt16LE(PHDR_BYTES, 54);
  image.writeUInt16LE(1, 56);
  image.writeUInt32LE(1, EHDR_BYTES); // PT_LOAD
  image.writeUInt32LE(7, EHDR_BYTES + 4);
  const sizes = [
    codeAt,
    lies.loadAddr ?? LOAD_ADDR,
    lies.loadAddr ?? LOAD_ADDR,
    lies.fileBytes ?? code.length,
    lies.memoryBytes ?? code.length,
    0x1000,
  ];
  sizes.forEach((size, i) => {
    image.writeBigUInt64LE(BigInt(size), EHDR_BYTES + 8 + i * 8);
  });
  image.set(code, codeAt);
  return image;
}
