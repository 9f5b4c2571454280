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

/** What a lying or damaged ELF file may say instead of the truth. */
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
