/**
 * Where the initramfs goes in guest memory, and how its parts are put together.
 */
import { TsvmError } from '../errors.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import type { Gpa } from '../memory/layout.js';
import { alignUp, PAGE_BYTES } from '../util/units.js';
import { lowRamEnd } from './e820.js';

/** `initrd_addr_max` of every x86-64 kernel so far; an ELF file does not say. */
export const DEFAULT_INITRD_ADDR_MAX = 0x7fff_ffff;
/** The kernel's unpacker wants every archive to start at a multiple of four (init/initramfs.c). */
const SEGMENT_ALIGN = 4;

export interface InitrdPlacement {
  readonly addr: Gpa;
  readonly length: number;
}

/** Bytes of all segments with the padding between them. */
export function initrdBytes(segments: readonly Uint8Array[]): number {
  return segments.reduce((at, segment) => alignUp(at, SEGMENT_ALIGN) + segment.length, 0);
}

/**
 * Writes the segments one after another, as high as they fit below the end of RAM and `addrMax`, and above
 * `kernelEnd`. Undefined if there is nothing to write.
 */
export function writeInitrd(
  memory: GuestMemory,
  segments: readonly Uint8Array[],
  options: { kernelEnd: Gpa; addrMax?: number },
): InitrdPlacement | undefined {
  const length = initrdBytes(segments);
  if (length === 0) return undefined;
  const limit = Math.min(lowRamEnd(memory), (options.addrMax ?? DEFAULT_INITRD_ADDR_MAX) + 1);
  const addr = Math.floor((limit - length) / PAGE_BYTES) * PAGE_BYTES;
  if (addr < options.kernelEnd) {
    const needed = Math.ceil((options.kernelEnd + alignUp(length, PAGE_BYTES)) / 2 ** 20);
    throw new TsvmError(
      'TSVM_INITRD',
      `the initramfs does not fit: ${length} bytes, with 0x${options.kernelEnd.toString(16)} to ` +
        `0x${limit.toString(16)} left beside the kernel`,
      {
        hint:
          needed < 2048
            ? `give the machine at least ${needed} MiB: \`memoryBytes\``
            : 'make the initramfs smaller',
      },
    );
  }
  let at = addr;
  for (const segment of segments) {
    const padded = addr + alignUp(at - addr, SEGMENT_ALIGN);
    memory.fill(at, padded - at, 0);
    memory.write(padded, segment);
    at = padded + segment.length;
  }
  return { addr, length };
}
