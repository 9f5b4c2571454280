/**
 * boot_params, the page through which Linux learns of its machine (Documentation/arch/x86/zero-page.rst).
 *
 * @spec linux-boot "Zero page"  boot_params  #yes
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import { BOOT_PARAMS_ADDR, CMDLINE_ADDR, type Gpa } from '../memory/layout.js';
import type { E820Entry } from './e820.js';
import {
  BOOT_FLAG,
  BOOT_PARAMS,
  BOOT_PARAMS_BYTES,
  E820_ENTRY_BYTES,
  E820_MAX_ENTRIES,
  HDR,
  HDR_START,
  HEADER_MAGIC,
  LOADED_HIGH,
  TYPE_OF_LOADER_UNDEFINED,
} from './setup-header.js';

export interface BootParams {
  /** The setup header of the bzImage, from offset 0x1F1; one is made up for an ELF kernel. */
  readonly setupHeader: Uint8Array | undefined;
  readonly e820: readonly E820Entry[];
  readonly initrd: { readonly addr: Gpa; readonly length: number } | undefined;
  /** Saves the kernel its search for the RSDP (`acpi_rsdp_addr`, Linux 5.0 and later). */
  readonly rsdpAddr: Gpa | undefined;
}

/** Fills in boot_params; the command line is at its place in the memory map. The result is the page's address. */
export function writeBootParams(memory: GuestMemory, params: BootParams): Gpa {
  const page = new Uint8Array(BOOT_PARAMS_BYTES);
  const view = new DataView(page.buffer);
  const u8 = (offset: number, value: number): void => view.setUint8(offset, value);
  const u16 = (offset: number, value: number): void => view.setUint16(offset, value, true);
  const u32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
  const u64 = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
  const high = (value: number): number => Math.floor(value / 2 ** 32);

  if (params.setupHeader !== undefined) {
    page.set(params.setupHeader, HDR_START);
  } else {
    u16(HDR.boot_flag, BOOT_FLAG);
    u32(HDR.header, HEADER_MAGIC);
    u16(HDR.version, 0x020f);
  }
  u8(HDR.type_of_loader, TYPE_OF_LOADER_UNDEFINED);
  u8(HDR.loadflags, view.getUint8(HDR.loadflags) | LOADED_HIGH);
  u32(HDR.cmd_line_ptr, CMDLINE_ADDR);
  u64(HDR.setup_data, 0);
  if (params.initrd !== undefined) {
    const { addr, length } = params.initrd;
    u32(HDR.ramdisk_image, addr % 2 ** 32);
    u32(HDR.ramdisk_size, length % 2 ** 32);
    u32(BOOT_PARAMS.ext_ramdisk_image, high(addr));
    u32(BOOT_PARAMS.ext_ramdisk_size, high(length));
  }
  if (params.rsdpAddr !== undefined) u64(BOOT_PARAMS.acpi_rsdp_addr, params.rsdpAddr);

  if (params.e820.length > E820_MAX_ENTRIES) throw new RangeError(`${params.e820.length} e820 entries`);
  u8(BOOT_PARAMS.e820_entries, params.e820.length);
  params.e820.forEach((entry, i) => {
    const at = BOOT_PARAMS.e820_table + i * E820_ENTRY_BYTES;
    u64(at, entry.addr);
    u64(at + 8, entry.length);
    u32(at + 16, entry.type);
  });
  memory.write(BOOT_PARAMS_ADDR, page);
  return BOOT_PARAMS_ADDR;
}
