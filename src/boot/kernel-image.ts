/**
 * Tells what a kernel file is, and brings it into RAM.
 */
import { TsvmError } from '../errors.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import type { Gpa } from '../memory/layout.js';
import { type ByteSource, bytesSource } from './byte-source.js';
import { isBzImage, parseBzImage, unpackPayload } from './bzimage.js';
import { DEFAULT_CMDLINE_LIMIT } from './cmdline.js';
import { compressionFormat, decompressFirst, type XzProgram } from './decompress/decompress.js';
import { checkFits, isElf, loadElf, parseElf } from './elf.js';
import { FILE_KIND_BYTES, fileKind } from './file-kind.js';
import { kernelImageError } from './image-reader.js';
import { DEFAULT_INITRD_ADDR_MAX } from './initrd.js';

/**
 * How to enter the kernel.
 *
 * - `auto`: the vmlinux at its 64-bit entry, unpacked on the host if it came in a bzImage
 * - `pvh`: the same, at its 32-bit PVH entry
 * - `bzimage`: the bzImage unpacks itself in the guest
 */
export type KernelEntry = 'auto' | 'pvh' | 'bzimage';

/** A kernel in RAM. */
export interface LoadedKernel {
  readonly kind: 'elf' | 'bzImage';
  readonly entry: Gpa;
  readonly protocol: 'linux64' | 'pvh';
  /** Memory that is taken from {@link startAddr} on, what the kernel needs beyond its image included. */
  readonly startAddr: Gpa;
  readonly endAddr: Gpa;
  readonly setupHeader: Uint8Array | undefined;
  readonly cmdlineLimit: number;
  readonly initrdAddrMax: Gpa;
}

/** The kind of a kernel image that begins with `bytes`, or an error that says what the file is instead. */
function kernelImageKind(bytes: Uint8Array): 'elf' | 'bzImage' {
  if (isElf(bytes)) return 'elf';
  if (isBzImage(bytes)) return 'bzImage';
  if (bytes.length === 0) throw kernelImageError('the kernel file is empty');
  const kind = fileKind(bytes);
  throw kernelImageError(
    `the file is not a kernel that boots here: neither an ELF vmlinux nor a bzImage${kind === undefined ? '' : `, but ${kind.name}`}`,
    kind?.remedy ?? 'give an x86-64 vmlinux or bzImage (arch/x86/boot/bzImage, /boot/vmlinuz-*)',
  );
}

/** Refuses what is no kernel as far as its headers say it; a file that is compressed is looked at when it is loaded. */
export async function checkKernelFile(file: ByteSource): Promise<void> {
  const start = await file.slice(0, FILE_KIND_BYTES);
  if (compressionFormat(start) === undefined && kernelImageKind(start) === 'elf') await parseElf(file);
}

/** The kernel in a file that is compressed as a whole (vmlinux.gz, vmlinux.xz), or the file itself. */
async function unpackedFile(file: ByteSource, xz: XzProgram, maxBytes: number): Promise<ByteSource> {
  if (compressionFormat(await file.slice(0, FILE_KIND_BYTES)) === undefined) return file;
  try {
    const { data } = await decompressFirst(await file.slice(0, file.length), { xz, maxBytes });
    return bytesSource(data);
  } catch (error) {
    if (error instanceof TsvmError) throw error;
    throw kernelImageError(
      `cannot unpack the kernel file: ${error instanceof Error ? error.message : String(error)}`,
      'fetch it again, unpack it first, or give the machine more memory: --memory',
      error,
    );
  }
}

/** Loads a kernel of either kind. */
export async function loadKernel(
  memory: GuestMemory,
  file: ByteSource,
  xz: XzProgram,
  entry: KernelEntry = 'auto',
): Promise<LoadedKernel> {
  const source = await unpackedFile(file, xz, memory.sizeBytes);
  if (kernelImageKind(await source.slice(0, FILE_KIND_BYTES)) === 'elf') {
    if (entry === 'bzimage') {
      throw kernelImageError('an ELF kernel has no bzImage entry', 'leave out --entry, or give the bzImage');
    }
    return {
      ...(await loadVmlinux(memory, source, entry)),
      kind: 'elf',
      setupHeader: undefined,
      cmdlineLimit: DEFAULT_CMDLINE_LIMIT,
      initrdAddrMax: DEFAULT_INITRD_ADDR_MAX,
    };
  }

  const image = parseBzImage(await source.slice(0, source.length));
  const common = {
    kind: 'bzImage',
    setupHeader: image.setupHeader,
    cmdlineLimit: image.cmdlineLimit,
    initrdAddrMax: image.initrdAddrMax,
  } as const;
  if (entry !== 'bzimage') {
    const vmlinux = bytesSource(await unpackPayload(image, xz, memory.sizeBytes));
    return { ...(await loadVmlinux(memory, vmlinux, entry)), ...common };
  }

  if (image.entry64 === undefined) throw kernelImageError('the bzImage is not for x86-64');
  checkFits(memory, image.loadAddr, image.initBytes);
  memory.write(image.loadAddr, image.protectedMode);
  return {
    ...common,
    entry: image.entry64,
    protocol: 'linux64',
    startAddr: image.loadAddr,
    endAddr: image.loadAddr + image.initBytes,
  };
}

async function loadVmlinux(memory: GuestMemory, source: ByteSource, entry: 'auto' | 'pvh') {
  const image = await parseElf(source);
  if (entry === 'pvh' && image.pvhEntry === undefined) {
    throw kernelImageError('the kernel has no PVH entry', 'build it with CONFIG_PVH=y, or leave out --entry');
  }
  await loadElf(memory, source, image);
  return {
    entry: entry === 'pvh' && image.pvhEntry !== undefined ? image.pvhEntry : image.entry,
    protocol: entry === 'pvh' ? ('pvh' as const) : ('linux64' as const),
    startAddr: image.startAddr,
    endAddr: image.endAddr,
  };
}
