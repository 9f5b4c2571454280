/**
 * Names files that are often given in place of a kernel or an initramfs, by their magics as file(1) knows them, for
 * refusals that say what the file is and what to do.
 */
import { DISK_FORMATS } from '../util/disk-formats.js';

/** Kind of a file. */
export interface FileKind {
  /** Name with its article: `a text`. */
  readonly name: string;
  /** Advice on what to do with it. */
  readonly remedy?: string;
}

/** The first of these bytes is as far into a file as any magic lies, and an ISO 9660 image has the last. */
export const FILE_KIND_BYTES = 0x8006;

type Magic = readonly [offset: number, magic: string, name: string, remedy?: string];

const DISK = 'give a disk with --disk, and its kernel with --kernel';
const ARM64 = 'boot it on an arm64 host; here it must be an x86-64 bzImage or vmlinux';
const UNPACK_PACKAGE = 'unpack it, and give the boot/vmlinuz-* in it';
const UNPACK_ARCHIVE = 'unpack it, and give the file in it';
const INITRD = 'give it with --initrd';
const NEW_CPIO = 'make it with: find . | cpio -o -H newc';
const X86_KERNEL = 'give an x86-64 bzImage or vmlinux';
const DUMP_IMAGE = 'take the kernel and initramfs out of it: dumpimage';
const MAKE_RAW = 'make it raw (qemu-img convert -O raw) and give it with --disk';

/** Magics in Latin-1, in the order in which they are tried. */
const MAGICS: readonly Magic[] = [
  [0, '070701', 'an initramfs', INITRD],
  [0, '070702', 'an initramfs', INITRD],
  [0, '070707', "an archive of cpio's old format", NEW_CPIO],
  [0, '\xc7\x71', "an archive of cpio's old format", NEW_CPIO],
  [0, '\x7fELF', 'an ELF file', 'give it with --kernel, if it is a vmlinux'],
  [0x38, 'ARM\x64', 'a kernel for arm64', ARM64],
  [0x38, 'RSC\x05', 'a kernel for RISC-V', X86_KERNEL],
  [0x24, '\x18\x28\x6f\x01', 'a kernel for 32-bit ARM', X86_KERNEL],
  [0x202, 'HdrS', 'a bzImage', 'give it with --kernel'],
  [0, '\x04\x22\x4d\x18', 'lz4 data in a frame that Linux does not take', 'pack it with: lz4 -l'],
  [0, '\x50\x2a\x4d\x18', 'zstd data after a frame that Linux does not take', 'pack it with zstd again'],
  [0, '!<arch>\ndebian', 'a Debian package', UNPACK_PACKAGE],
  [0, '!<arch>\n', 'a static library or ar archive', UNPACK_ARCHIVE],
  [0, '\xed\xab\xee\xdb', 'an RPM package', UNPACK_PACKAGE],
  [0, 'PK\x03\x04', 'a ZIP archive', UNPACK_ARCHIVE],
  [257, 'ustar', 'a tar archive', UNPACK_ARCHIVE],
  [0, '\x27\x05\x19\x56', 'an image for U-Boot', DUMP_IMAGE],
  [0, '\xd0\x0d\xfe\xed', 'a device tree or FIT image', DUMP_IMAGE],
  ...DISK_FORMATS.map(({ offset, magic, name }): Magic => [offset, magic, `a ${name} disk image`, MAKE_RAW]),
  [0x8001, 'CD001', 'a CD image', 'take the kernel and initramfs out of it'],
  [512, 'EFI PART', 'a disk image', DISK],
];

/** Magics of file systems that a kernel takes for its RAM disk (init/do_mounts_rd.c). */
const FILE_SYSTEMS: readonly Magic[] = [
  [0, 'hsqs', 'a squashfs'],
  [0, '-rom1fs-', 'a romfs'],
  [0, '\x45\x3d\xcd\x28', 'a cramfs'],
  [0x438, '\x53\xef', 'an ext file system'],
];

/** Kind of the file with these bytes at its beginning; undefined if it is not known. */
export function fileKind(bytes: Uint8Array): FileKind | undefined {
  const [, , name, remedy] = MAGICS.find(hasMagic(bytes)) ?? [];
  if (name !== undefined) return { name, ...(remedy === undefined ? {} : { remedy }) };
  const fileSystem = fileSystemKind(bytes);
  if (fileSystem !== undefined) return { name: fileSystem, remedy: DISK };
  if (at(bytes, 0, 2) === 'MZ') return peKind(bytes);
  if (at(bytes, 510, 2) === '\x55\xaa') return { name: 'a disk image', remedy: DISK };
  return isText(bytes) ? { name: 'a text' } : undefined;
}

/** Name of the file system with these bytes at its beginning, if a kernel takes it for a RAM disk. */
export function fileSystemKind(bytes: Uint8Array): string | undefined {
  return FILE_SYSTEMS.find(hasMagic(bytes))?.[2];
}

/** Name of a processor by its number in ELF files (elf(5), e_machine). */
export function elfMachine(machine: number): string {
  return ELF_MACHINES[machine] ?? `another processor (e_machine ${machine})`;
}

const ELF_MACHINES: Readonly<Record<number, string>> = {
  3: 'i386 (32 bits)',
  8: 'MIPS',
  20: '32-bit PowerPC',
  21: 'PowerPC',
  22: 's390',
  40: '32-bit ARM',
  62: 'x86-64',
  183: 'arm64',
  243: 'RISC-V',
  258: 'LoongArch',
};

/** Processors by their numbers in PE files (PE Format, "Machine Types"). */
const PE_MACHINES: ReadonlyMap<number, string> = new Map([
  [0x14c, 'i386'],
  [0x1c0, '32-bit ARM'],
  [0x5064, 'RISC-V'],
  [0x6264, 'LoongArch'],
  [0x8664, 'x86-64'],
  [0xaa64, 'arm64'],
]);

/** End of the magic of a bzImage, which begins like an EFI program. */
const SETUP_HEADER_END = 0x206;

/** Distances in a PE file: of its header's offset, and within that header. */
const PE_OFFSET = 0x3c;
const PE_MACHINE = 4;
const PE_SECTIONS = 6;
const PE_OPTIONAL_BYTES = 20;
const PE_HEADER_BYTES = 24;
const PE_SECTION_BYTES = 40;

/** Kind of an EFI program that is no bzImage: a kernel that unpacks itself, a kernel with all that it needs, or another. */
function peKind(bytes: Uint8Array): FileKind {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const header = bytes.length >= PE_OFFSET + 4 ? view.getUint32(PE_OFFSET, true) : bytes.length;
  const isCut = bytes.length < SETUP_HEADER_END || header + PE_HEADER_BYTES > bytes.length;
  if (isCut || at(bytes, header, 4) !== 'PE\0\0') {
    return { name: 'the beginning of a bzImage or an EFI program, damaged', remedy: 'fetch it again' };
  }
  const machine = view.getUint16(header + PE_MACHINE, true);
  const processor = PE_MACHINES.get(machine) ?? `another processor (0x${machine.toString(16)})`;
  if (at(bytes, 4, 4) === 'zimg') {
    return { name: `an EFI zboot kernel for ${processor}`, remedy: X86_KERNEL };
  }
  const sections = header + PE_HEADER_BYTES + view.getUint16(header + PE_OPTIONAL_BYTES, true);
  for (let i = 0; i < view.getUint16(header + PE_SECTIONS, true); i++) {
    if (at(bytes, sections + i * PE_SECTION_BYTES, 7) !== '.linux\0') continue;
    return {
      name: `a unified kernel image for ${processor}`,
      remedy:
        'take out its kernel and its initramfs: objcopy -O binary --only-section=.linux FILE vmlinuz, and so with .initrd',
    };
  }
  return { name: `an EFI program for ${processor}`, remedy: 'give a bzImage or vmlinux' };
}

function hasMagic(bytes: Uint8Array): (row: Magic) => boolean {
  return ([offset, magic]) => at(bytes, offset, magic.length) === magic;
}

function at(bytes: Uint8Array, offset: number, length: number): string {
  return Buffer.from(bytes.subarray(offset, offset + length)).toString('latin1');
}

/** Length of the part of a file that must be printable for a text. */
const TEXT_BYTES = 256;

function isText(bytes: Uint8Array): boolean {
  return bytes.length > 0 && /^[\t\n\r\x20-\x7e\x80-\xff]*$/.test(at(bytes, 0, TEXT_BYTES));
}
