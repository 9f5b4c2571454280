/**
 * Page tables for the 64-bit entry: an identity map in 2 MiB pages.
 *
 * boot.rst ("64-bit Boot Protocol") asks for the kernel, boot_params and the command line to be mapped. The kernel
 * builds its own tables within its first hundred instructions, so no more is mapped than it can touch until then.
 *
 * @spec linux-boot "64-bit Boot Protocol"  Identity map  #yes
 */
import assert from 'node:assert';
import type { GuestMemory } from '../memory/guest-memory.js';
import { type Gpa, PAGE_TABLES_ADDR, PAGE_TABLES_END } from '../memory/layout.js';
import { PAGE_BYTES } from '../util/units.js';

const LARGE_PAGE_BYTES = 0x20_0000;
const ENTRIES = 512;
/** What one page directory maps. */
const DIRECTORY_BYTES = ENTRIES * LARGE_PAGE_BYTES;
const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const LARGE = 1 << 7;

/** Maps guest physical 0 up to at least `endAddr` (1 to 4 GiB) to itself; the result goes into CR3. */
export function writePageTables(memory: GuestMemory, endAddr: Gpa): Gpa {
  const directories = Math.max(1, Math.ceil(endAddr / DIRECTORY_BYTES));
  const pml4 = PAGE_TABLES_ADDR;
  const pdpt = pml4 + PAGE_BYTES;
  const firstDirectory = pdpt + PAGE_BYTES;
  const bytes = (2 + directories) * PAGE_BYTES;
  assert(pml4 + bytes <= PAGE_TABLES_END, `no room for ${directories} page directories`);
  memory.fill(pml4, bytes, 0);
  memory.writeU64(pml4, pdpt | PRESENT | WRITABLE | ACCESSED);
  for (let d = 0; d < directories; d++) {
    const directory = firstDirectory + d * PAGE_BYTES;
    memory.writeU64(pdpt + d * 8, directory | PRESENT | WRITABLE | ACCESSED);
    for (let i = 0; i < ENTRIES; i++) {
      const page = (d * ENTRIES + i) * LARGE_PAGE_BYTES;
      // Accessed and dirty are set beforehand: a processor would otherwise write them on first use.
      memory.writeU64(directory + i * 8, page + (PRESENT | WRITABLE | ACCESSED | DIRTY | LARGE));
    }
  }
  return pml4;
}
