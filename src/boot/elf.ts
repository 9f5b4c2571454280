/**
 * ELF64 kernels for x86-64 (vmlinux): which bytes go where, and where the kernel is entered.
 *
 * The format is elf(5). Linux is loaded at the physical addresses of its PT_LOAD headers; `e_entry` of a vmlinux is
 * the physical address of `startup_64` (arch/x86/kernel/vmlinux.lds.S, `phys_startup_64`). Kernels with CONFIG_PVH
 * carry their 32-bit entry in a note (Xen, public/elfnote.h).
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import { type Gpa, HIGH_RAM_START, MMIO_HOLE_START } from '../memory/layout.js';
import type { ByteSource } from './byte-source.js';
import { elfMachine } from './file-kind.js';
import { checkRange, type ImageReader, kernelImageError, readPart } from './image-reader.js';

const ELF_MAGIC = 0x464c_457f;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const ET_REL = 1;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_X86_64 = 62;
const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const PT_LOAD = 1;
const PT_INTERP = 3;
const PT_NOTE = 4;
const NOTE_HEADER_BYTES = 12;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** A vmlinux has about five; a hostile image may claim 65,535. */
const MAX_PROGRAM_HEADERS = 256;
/** A vmlinux has a dozen notes in a few hundred bytes. */
const MAX_NOTE_BYTES = 64 * 1024;

/** `fileBytes` of the image, from `offset` on, go to `addr`; the rest up to `memoryBytes` is zero. */
export interface ElfSegment {
  readonly addr: Gpa;
  readonly offset: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

export interface ElfImage {
  /** In ascending order of address, without empty ones. */
  readonly segments: readonly ElfSegment[];
  /** Physical address of the 64-bit entry. */
  readonly entry: Gpa;
  /** Physical address of the 32-bit PVH entry, if the kernel has one. */
  readonly pvhEntry: Gpa | undefined;
  readonly startAddr: Gpa;
  readonly endAddr: Gpa;
}

/** True for anything that begins like an ELF file. */
export function isElf(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46
  );
}

/** Parses an ELF kernel and checks all that can be checked without knowing the machine's RAM. */
export async function parseElf(source: ByteSource, what = 'the ELF kernel'): Promise<ElfImage> {
  const image = await readPart(source, what, 0, EHDR_BYTES);
  if (image.u32(0) !== ELF_MAGIC) throw kernelImageError(`${what} is not an ELF file`);
  if (image.u8(4) !== ELFCLASS64 || image.u8(5) !== ELFDATA2LSB || image.u16(18) !== EM_X86_64) {
    const machine = elfMachine(image.u8(5) === ELFDATA2LSB ? image.u16(18) : image.u8(19));
    throw kernelImageError(
      `${what} is not for x86-64 but for ${machine}`,
      'give a kernel that was built with ARCH=x86_64 and CONFIG_64BIT=y; neither a 32-bit one nor Xen boots here',
    );
  }
  const type = image.u16(16);
  if (type !== ET_EXEC && type !== ET_DYN) {
    throw kernelImageError(
      `${what} is not an executable but ${type === ET_REL ? 'an object file or a module' : `of e_type ${type}`}`,
      'give the linked vmlinux or the bzImage',
    );
  }
  const entry = image.size(24, 'e_entry');
  const headersOffset = image.size(32, 'e_phoff');
  const headerBytes = image.u16(54);
  const headerCount = image.u16(56);
  if (headerBytes !== PHDR_BYTES) throw kernelImageError(`${what} is damaged: e_phentsize is ${headerBytes}`);
  if (headerCount > MAX_PROGRAM_HEADERS) {
    throw kernelImageError(`${what} is damaged: it claims ${headerCount} program headers`);
  }
  const headers = await readPart(source, what, headersOffset, headerCount * PHDR_BYTES);

  const segments: ElfSegment[] = [];
  let entryAddr: Gpa | undefined;
  let pvhEntry: Gpa | undefined;
  let wantsInterpreter = false;
  for (let i = 0; i < headerCount; i++) {
    const at = i * PHDR_BYTES;
    const kind = headers.u32(at);
    const offset = headers.size(at + 8, `p_offset of header ${i}`);
    const virtualAddr = headers.u64(at + 16);
    const addr = headers.size(at + 24, `p_paddr of header ${i}`);
    const fileBytes = headers.size(at + 32, `p_filesz of header ${i}`);
    const memoryBytes = headers.size(at + 40, `p_memsz of header ${i}`);
    if (kind === PT_INTERP) wantsInterpreter = true;
    if (kind === PT_NOTE) {
      if (fileBytes > MAX_NOTE_BYTES)
        throw kernelImageError(`${what} is damaged: ${fileBytes} bytes of notes`);
      pvhEntry ??= pvhEntryOf(await readPart(source, `${what}'s note segment`, offset, fileBytes));
      continue;
    }
    if (kind !== PT_LOAD || memoryBytes === 0) continue;
    if (memoryBytes < fileBytes) {
      throw kernelImageError(
        `${what} is damaged: segment ${i} has ${fileBytes} bytes for ${memoryBytes} bytes of memory`,
      );
    }
    if (!Number.isSafeInteger(addr + memoryBytes)) {
      throw kernelImageError(`${what} is damaged: segment ${i} reaches beyond the address space`);
    }
    checkRange(what, source.length, offset, fileBytes);
    segments.push({ addr, offset, fileBytes, memoryBytes });
    if (entry >= addr && entry < addr + memoryBytes) entryAddr = entry;
    // Some linkers leave the virtual address in e_entry.
    const fromVirtual = BigInt(entry) - virtualAddr;
    if (fromVirtual >= 0n && fromVirtual < BigInt(memoryBytes)) entryAddr ??= addr + Number(fromVirtual);
  }

  // FreeBSD's kernel names an interpreter, which nobody looks for.
  if (wantsInterpreter && pvhEntry === undefined)
    throw kernelImageError(`${what} is a program, which a kernel runs`, 'give the vmlinux or the bzImage');
  segments.sort((a, b) => a.addr - b.addr);
  const first = segments[0];
  const last = segments[segments.length - 1];
  if (first === undefined || last === undefined) {
    throw kernelImageError(`${what} has nothing to load`, 'give the linked vmlinux, not a debug file');
  }
  segments.forEach((segment, i) => {
    const next = segments[i + 1];
    if (next !== undefined && segment.addr + segment.memoryBytes > next.addr) {
      throw kernelImageError(`${what} is damaged: segments overlap at 0x${next.addr.toString(16)}`);
    }
  });
  if (first.addr < HIGH_RAM_START) {
    throw kernelImageError(
      `${what} wants to be loaded at 0x${first.addr.toString(16)}, below 1 MiB`,
      'set CONFIG_PHYSICAL_START to 0x100000 or more',
    );
  }
  if (entryAddr === undefined) {
    throw kernelImageError(`${what} is damaged: its entry 0x${entry.toString(16)} lies in no segment`);
  }
  if (
    pvhEntry !== undefined &&
    !segments.some((s) => pvhEntry >= s.addr && pvhEntry < s.addr + s.memoryBytes)
  ) {
    throw kernelImageError(`${what} is damaged: its PVH entry 0x${pvhEntry.toString(16)} lies in no segment`);
  }
  return {
    segments,
    entry: entryAddr,
    pvhEntry,
    startAddr: first.addr,
    endAddr: last.addr + last.memoryBytes,
  };
}

/** Brings the segments into RAM and zeroes what follows each. */
export async function loadElf(
  memory: GuestMemory,
  source: ByteSource,
  image: ElfImage,
  what = 'the kernel',
): Promise<void> {
  for (const { addr, memoryBytes } of image.segments) checkFits(memory, addr, memoryBytes, what);
  for (const { addr, offset, fileBytes, memoryBytes } of image.segments) {
    let at = offset;
    for (const target of memory.slices(addr, fileBytes)) {
      await source.copyTo(target, at);
      at += target.length;
    }
    memory.fill(addr + fileBytes, memoryBytes - fileBytes, 0);
  }
}

/** Throws the error of a kernel that does not fit into the machine. */
export function checkFits(memory: GuestMemory, addr: Gpa, length: number, what = 'the kernel'): void {
  if (memory.contains(addr, length) && addr + length <= MMIO_HOLE_START) return;
  const needed = Math.ceil((addr + length) / 2 ** 20);
  throw kernelImageError(
    `${what} does not fit: it needs 0x${addr.toString(16)} to 0x${(addr + length).toString(16)}, ` +
      `the machine has ${Math.floor(memory.sizeBytes / 2 ** 20)} MiB of memory`,
    needed < 3072
      ? `give the machine more than ${needed} MiB: --memory`
      : 'build the kernel for an address in RAM',
  );
}

/** The value of the first XEN_ELFNOTE_PHYS32_ENTRY in a note segment. */
function pvhEntryOf(notes: ImageReader): Gpa | undefined {
  for (let at = 0; at + NOTE_HEADER_BYTES <= notes.length; ) {
    const nameBytes = notes.u32(at);
    const valueBytes = notes.u32(at + 4);
    const type = notes.u32(at + 8);
    const nameAt = at + NOTE_HEADER_BYTES;
    const valueAt = nameAt + roundUp4(nameBytes);
    at = valueAt + roundUp4(valueBytes);
    if (type !== XEN_ELFNOTE_PHYS32_ENTRY || !isXen(notes.slice(nameAt, nameBytes))) continue;
    if (valueBytes === 4) return notes.u32(valueAt);
    if (valueBytes === 8) return notes.size(valueAt, 'PHYS32_ENTRY');
    throw kernelImageError(`${notes.what} is damaged: its PVH note has ${valueBytes} bytes`);
  }
  return undefined;
}

function isXen(name: Uint8Array): boolean {
  return name.length === 4 && name[0] === 0x58 && name[1] === 0x65 && name[2] === 0x6e && name[3] === 0;
}

function roundUp4(value: number): number {
  return Math.ceil(value / 4) * 4;
}
