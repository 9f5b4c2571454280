/**
 * bzImage: the setup header, the protected-mode part, and the compressed vmlinux within it.
 *
 * Documentation/arch/x86/boot.rst. Unpacking the payload on the host saves the guest its decompressor, and a host
 * whose KVM interprets ring 0 saves minutes. The payload is the compressed file followed by its unpacked length in
 * four bytes (scripts/Makefile.lib, `size_append`; gzip's own trailer is the same).
 *
 * @spec linux-boot "Loading The Rest of The Kernel"  bzImage and its payload  #yes
 */
import { TsvmError } from '../errors.js';
import { type Gpa, HIGH_RAM_START } from '../memory/layout.js';
import { decompress, type XzProgram } from './decompress/decompress.js';
import { ImageReader, kernelImageError } from './image-reader.js';
import {
  BOOT_FLAG,
  HDR,
  HDR_END_MAX,
  HDR_START,
  HEADER_MAGIC,
  VERSION_2_12,
  XLF_KERNEL_64,
} from './setup-header.js';

const SECTOR_BYTES = 512;
/** boot.rst: "For backwards compatibility, if the setup_sects field contains 0, the real value is 4." */
const DEFAULT_SETUP_SECTS = 4;
/** The 64-bit entry's distance from the start of the protected-mode part. */
const ENTRY_64_OFFSET = 0x200;
/** A debug-laden allyesconfig vmlinux without its symbols stays below this; a bomb does not. */
export const MAX_KERNEL_BYTES = 1024 * 1024 * 1024;

export interface BzImage {
  /** From offset 0x1F1 to the header's own end; goes into boot_params as it is. */
  readonly setupHeader: Uint8Array;
  /** What is loaded at {@link loadAddr} when the kernel unpacks itself. */
  readonly protectedMode: Uint8Array;
  /** The compressed vmlinux with its trailing length word, as a view; undefined where the header names none. */
  readonly payload: Uint8Array | undefined;
  /** Where the protected-mode part prefers to be, and the memory it needs from there on. */
  readonly loadAddr: Gpa;
  readonly initBytes: number;
  /** Physical address of the 64-bit entry when loaded at {@link loadAddr}; undefined for a 32-bit kernel. */
  readonly entry64: Gpa | undefined;
  /** The most bytes of command line, without the NUL. */
  readonly cmdlineLimit: number;
  readonly initrdAddrMax: Gpa;
}

/** True if the bytes carry a setup header. */
export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < HDR.header + 4) return false;
  const image = new ImageReader(bytes, 'the image');
  return image.u16(HDR.boot_flag) === BOOT_FLAG && image.u32(HDR.header) === HEADER_MAGIC;
}

/** Parses a bzImage. The payload is not unpacked yet: see {@link unpackPayload}. */
export function parseBzImage(bytes: Uint8Array): BzImage {
  const image = new ImageReader(bytes, 'the bzImage');
  const version = image.u16(HDR.version);
  if (version < VERSION_2_12) {
    throw kernelImageError(
      `the bzImage speaks boot protocol ${version >>> 8}.${version & 0xff}, 2.12 is the oldest with a 64-bit entry`,
      'use Linux 3.8 or later',
    );
  }
  const headerEnd = HDR.header + image.u8(HDR.jump_length);
  if (headerEnd < HDR.init_size + 4 || headerEnd > HDR_END_MAX) {
    throw kernelImageError(`the bzImage is damaged: its setup header ends at 0x${headerEnd.toString(16)}`);
  }
  const setupSects = image.u8(HDR.setup_sects) || DEFAULT_SETUP_SECTS;
  const protectedModeOffset = (setupSects + 1) * SECTOR_BYTES;
  if (protectedModeOffset >= image.length) {
    throw kernelImageError(
      `the bzImage is truncated: its kernel starts at byte ${protectedModeOffset}, the file has ${image.length}`,
      'fetch or build the kernel again',
    );
  }
  const protectedMode = image.slice(protectedModeOffset, image.length - protectedModeOffset);

  const payloadOffset = image.u32(HDR.payload_offset);
  const payloadLength = image.u32(HDR.payload_length);
  let payload: Uint8Array | undefined;
  if (payloadLength !== 0) {
    if (payloadOffset + payloadLength > protectedMode.length) {
      throw kernelImageError(
        `the bzImage is truncated: its header names ${payloadLength} bytes of payload, ` +
          `${Math.max(0, protectedMode.length - payloadOffset)} are there`,
        'fetch or build the kernel again',
      );
    }
    payload = protectedMode.subarray(payloadOffset, payloadOffset + payloadLength);
  }

  const is64Bit = (image.u16(HDR.xloadflags) & XLF_KERNEL_64) !== 0;
  const preferred = image.size(HDR.pref_address, 'pref_address');
  const loadAddr = Math.max(preferred, HIGH_RAM_START);
  return {
    setupHeader: image.slice(HDR_START, headerEnd - HDR_START),
    protectedMode,
    payload,
    loadAddr,
    initBytes: Math.max(image.u32(HDR.init_size), protectedMode.length),
    entry64: is64Bit ? loadAddr + ENTRY_64_OFFSET : undefined,
    cmdlineLimit: image.u32(HDR.cmdline_size),
    initrdAddrMax: image.u32(HDR.initrd_addr_max),
  };
}

/** The vmlinux of a bzImage, unpacked on the host. `maxBytes` is what the machine's memory could hold. */
export async function unpackPayload(
  image: BzImage,
  xz: XzProgram,
  maxBytes: number = MAX_KERNEL_BYTES,
): Promise<Uint8Array> {
  const { payload } = image;
  if (payload === undefined || payload.length < 8) {
    throw kernelImageError(
      'the bzImage names no payload to unpack',
      "let it unpack itself: `entry: 'bzimage'`",
    );
  }
  const sizeOffset = payload.length - 4;
  const unpackedBytes = new ImageReader(payload, 'the payload').u32(sizeOffset);
  if (unpackedBytes === 0 || unpackedBytes > MAX_KERNEL_BYTES) {
    throw kernelImageError(
      `the bzImage is damaged: its payload claims to unpack to ${unpackedBytes} bytes`,
      'fetch or build the kernel again',
    );
  }
  if (unpackedBytes > maxBytes) {
    throw kernelImageError(
      `the kernel does not fit: it unpacks to ${unpackedBytes} bytes, the machine has ${maxBytes} bytes of memory`,
      'give the machine more memory: `memoryBytes`',
    );
  }
  let unpacked: Uint8Array;
  try {
    // The length word is the end of a gzip payload, and foreign to every other format.
    const isGzip = payload[0] === 0x1f && payload[1] === 0x8b;
    unpacked = await decompress(isGzip ? payload : payload.subarray(0, sizeOffset), {
      xz,
      maxBytes: unpackedBytes,
      exactBytes: unpackedBytes,
    });
  } catch (error) {
    if (error instanceof TsvmError) throw error;
    throw kernelImageError(
      `cannot unpack the bzImage's payload: ${error instanceof Error ? error.message : String(error)}`,
      "fetch or build the kernel again, or let it unpack itself: `entry: 'bzimage'`",
      error,
    );
  }
  return unpacked;
}
