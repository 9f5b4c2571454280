/**
 * What a kernel that is entered through PVH is told (Xen, docs/misc/pvh.pandoc; xen/include/public/arch-x86/hvm/start_info.h).
 *
 * @spec pvh "struct hvm_start_info"  What the kernel is told  #yes
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import { CMDLINE_ADDR, type Gpa, PVH_START_INFO_ADDR } from '../memory/layout.js';
import type { E820Entry } from './e820.js';
import { TableWriter } from './table-writer.js';

const HVM_START_MAGIC = 0x336e_c578;
/** Version 1 added the memory map. */
const VERSION = 1;
const START_INFO_BYTES = 56;
const MODULE_BYTES = 32;

export interface PvhInfo {
  readonly initrd: { readonly addr: Gpa; readonly length: number } | undefined;
  readonly rsdpAddr: Gpa | undefined;
  /** Types are those of E820. */
  readonly memoryMap: readonly E820Entry[];
}

/** Writes hvm_start_info, the module list and the memory map; the result goes into EBX. */
export function writePvhStartInfo(memory: GuestMemory, info: PvhInfo): Gpa {
  const moduleAddr = PVH_START_INFO_ADDR + START_INFO_BYTES;
  const mapAddr = moduleAddr + MODULE_BYTES;
  const table = new TableWriter()
    .u32(HVM_START_MAGIC)
    .u32(VERSION)
    .u32(0) // flags
    .u32(info.initrd === undefined ? 0 : 1)
    .u64(info.initrd === undefined ? 0 : moduleAddr)
    .u64(CMDLINE_ADDR)
    .u64(info.rsdpAddr ?? 0)
    .u64(mapAddr)
    .u32(info.memoryMap.length)
    .u32(0);
  table
    .u64(info.initrd?.addr ?? 0)
    .u64(info.initrd?.length ?? 0)
    .u64(0) // the module's own command line
    .u64(0);
  for (const { addr, length, type } of info.memoryMap) table.u64(addr).u64(length).u32(type).u32(0);
  memory.write(PVH_START_INFO_ADDR, table.bytes());
  return PVH_START_INFO_ADDR;
}
