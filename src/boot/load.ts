/**
 * Puts a Linux kernel and all that it needs into guest memory, and says how to enter it.
 */
import { TsvmError } from '../errors.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import { type Gpa, MMIO_HOLE_END, RESET_HANDOVER_ADDR } from '../memory/layout.js';
import { writeAcpiTables } from './acpi.js';
import { writeBootParams } from './boot-params.js';
import type { ByteSource } from './byte-source.js';
import { writeCmdline } from './cmdline.js';
import type { XzProgram } from './decompress/decompress.js';
import { e820Map } from './e820.js';
import { type EntryState, linux64EntryState, pvhEntryState } from './entry-state.js';
import { type InitrdPlacement, writeInitrd } from './initrd.js';
import { type KernelEntry, type LoadedKernel, loadKernel } from './kernel-image.js';
import { writeMpTable } from './mptable.js';
import { writePageTables } from './page-tables.js';
import { writePvhStartInfo } from './pvh.js';

/** A memory-mapped device, as the tables describe it: where, how long, which interrupt. */
export interface DeviceRow {
  readonly addr: Gpa;
  readonly length: number;
  readonly gsi: number;
}

export interface LoadLinuxOptions {
  /** The kernel file. */
  readonly image: ByteSource;
  /** Archives that make up the initramfs, in order; each as it came or already unpacked. */
  readonly initrd?: readonly Uint8Array[];
  readonly cmdline: string;
  readonly cpus: number;
  readonly devices: readonly DeviceRow[];
  /** Write ACPI tables, and name them in boot_params. */
  readonly acpi: boolean;
  /** Write an MP table. */
  readonly mptable: boolean;
  readonly entry?: KernelEntry;
  /** For kernels packed with xz or lzma. */
  readonly xz: XzProgram;
}

export interface LoadedLinux {
  readonly kernel: LoadedKernel;
  readonly initrd: InitrdPlacement | undefined;
  readonly rsdpAddr: Gpa | undefined;
  /** For the boot processor. The others wait for INIT and SIPI. */
  readonly entry: EntryState;
}

/**
 * Loads Linux into memory that nothing runs in yet.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { createGuestMemory } from '../memory/guest-memory.js';
 * import { bytesSource } from './byte-source.js';
 * import { loadLinux } from './load.js';
 *
 * const memory = createGuestMemory([{ addr: 0, bytes: new Uint8Array(64 << 20) }]);
 * const { entry } = await loadLinux(memory, {
 *   image: bytesSource(await readFile('vmlinux')),
 *   initrd: [await readFile('initramfs.cpio')],
 *   cmdline: 'console=ttyS0',
 *   cpus: 1,
 *   devices: [],
 *   acpi: false,
 *   mptable: true,
 *   xz: () => Promise.reject(new Error('vmlinux is not compressed')),
 * });
 * console.log(entry.kind);
 * ```
 */
export async function loadLinux(memory: GuestMemory, options: LoadLinuxOptions): Promise<LoadedLinux> {
  const kernel = await loadKernel(memory, options.image, options.xz, options.entry);
  writeCmdline(memory, options.cmdline, kernel.cmdlineLimit);
  const initrd = writeInitrd(memory, options.initrd ?? [], {
    kernelEnd: kernel.endAddr,
    addrMax: kernel.initrdAddrMax,
  });
  const { cpus, devices } = options;
  const rsdpAddr = options.acpi ? writeAcpiTables(memory, { cpus, devices }) : undefined;
  if (options.mptable) writeMpTable(memory, { cpus, gsis: devices.map(({ gsi }) => gsi) });

  const e820 = e820Map(memory);
  let entry: EntryState;
  if (kernel.protocol === 'pvh') {
    const rbx = writePvhStartInfo(memory, { initrd, rsdpAddr, memoryMap: e820 });
    entry = pvhEntryState(memory, { rip: kernel.entry, rbx });
  } else {
    const rsi = writeBootParams(memory, { setupHeader: kernel.setupHeader, e820, initrd, rsdpAddr });
    const cr3 = writePageTables(memory, kernel.endAddr);
    entry = linux64EntryState(memory, { rip: kernel.entry, rsi, cr3 });
  }
  return { kernel, initrd, rsdpAddr, entry };
}

/**
 * For `--firmware builtin`: leaves the entry that `loadLinux` returned where the reset ROM takes it from
 * (firmware/reset.S), and maps the ROM in the page tables.
 */
export function writeResetHandover(memory: GuestMemory, entry: EntryState): void {
  if (entry.kind !== 'linux64') {
    throw new TsvmError('TSVM_FIRMWARE', 'the builtin firmware enters kernels at their 64-bit entry only', {
      hint: "leave out `entry: 'pvh'` or `firmware: 'builtin'`",
    });
  }
  const block = RESET_HANDOVER_ADDR;
  memory.writeU64(block, entry.rip);
  memory.writeU64(block + 8, entry.rsi);
  memory.writeU64(block + 16, writePageTables(memory, MMIO_HOLE_END));
  memory.writeU64(block + 24, entry.rsp);
  memory.writeU16(block + 32, entry.gdt.limit);
  memory.writeU64(block + 34, entry.gdt.base);
}
