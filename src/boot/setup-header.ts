/**
 * Offsets of the x86 setup header and of boot_params ("zero page"), in which it lies at the same place.
 * Documentation/arch/x86/boot.rst and zero-page.rst; arch/x86/include/uapi/asm/bootparam.h.
 *
 * @spec linux-boot "Details of Header Fields"  Offsets of the setup header  #yes
 */

/** Offsets into a bzImage and, the same, into boot_params. */
export const HDR = {
  setup_sects: 0x1f1,
  syssize: 0x1f4,
  vid_mode: 0x1fa,
  boot_flag: 0x1fe,
  jump_length: 0x201,
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  loadflags: 0x211,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
  cmd_line_ptr: 0x228,
  initrd_addr_max: 0x22c,
  kernel_alignment: 0x230,
  relocatable_kernel: 0x234,
  xloadflags: 0x236,
  cmdline_size: 0x238,
  payload_offset: 0x248,
  payload_length: 0x24c,
  setup_data: 0x250,
  pref_address: 0x258,
  init_size: 0x260,
} as const;

/** Where the header starts, and the most it can span: boot_params has its e820 table from 0x2D0. */
export const HDR_START = HDR.setup_sects;
export const HDR_END_MAX = 0x290;

/** Offsets of boot_params outside the header. */
export const BOOT_PARAMS = {
  acpi_rsdp_addr: 0x070,
  ext_ramdisk_image: 0x0c0,
  ext_ramdisk_size: 0x0c4,
  ext_cmd_line_ptr: 0x0c8,
  e820_entries: 0x1e8,
  e820_table: 0x2d0,
} as const;

export const BOOT_PARAMS_BYTES = 0x1000;
export const E820_ENTRY_BYTES = 20;
export const E820_MAX_ENTRIES = 128;

export const BOOT_FLAG = 0xaa55;
/** "HdrS" */
export const HEADER_MAGIC = 0x5372_6448;
/** "undefined" loader, without a number assigned in boot.rst. */
export const TYPE_OF_LOADER_UNDEFINED = 0xff;

export const LOADED_HIGH = 1 << 0;

export const XLF_KERNEL_64 = 1 << 0;

/** Older headers have no 64-bit entry (boot.rst: xloadflags since 2.12). */
export const VERSION_2_12 = 0x020c;
