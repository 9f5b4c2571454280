/**
 * A machine's RAM on the host's side: one native memory for each region, and what lies under it.
 *
 * A machine that was booted owns its memory. One that was restored or forked sees a base that others see too (another
 * machine's frozen memory, or files) and has copies of its own of the pages that it wrote.
 */
import type { MemoryRegion } from '../memory/guest-memory.js';
import type { Gpa, RamRange } from '../memory/layout.js';
import type { NativeAddon, NativeEventFd, NativeMemory } from '../native/binding.js';
import { GIB, PAGE_BYTES } from '../util/units.js';

/** The largest piece of RAM behind one memfd: Node 20 caps an external ArrayBuffer at 4 GiB. */
const MAX_REGION_BYTES = 2 * GIB;

/** Pages in ascending order: from `first`, `count` of them. Numbered over the whole of RAM, regions one after the other. */
export interface PageRun {
  readonly first: number;
  readonly count: number;
}

/** A part of a file that holds a part of RAM. */
export interface FilePiece extends PageRun {
  readonly fd: number;
  readonly fileOffset: number;
}

/** Contents that do not change any more, to be seen by any number of machines. */
export interface RamBase {
  mapInto(ram: Ram): void;
  /** Lets go of what is only needed to map it once more. Those that see it go on. */
  close(): void;
}

interface Region {
  readonly addr: Gpa;
  readonly memory: NativeMemory;
  readonly firstPage: number;
  readonly pages: number;
}

export class Ram {
  readonly regions: readonly Region[];
  readonly sizeBytes: number;
  readonly #addon: NativeAddon;
  readonly #onLost: () => void;
  #lost: NativeEventFd | undefined;
  /** What this RAM equals until somebody writes to it; this RAM's to close. */
  #base: RamBase | undefined;
  /** Data that a base of files brought, which `dataPages` of the native memory does not see. */
  #filePages: readonly PageRun[] = [];
  #shared = true;

  /**
   * @param onLost called when a file that was mapped was truncated, and the guest lost memory.
   * @param name of the memfds, for /proc.
   */
  constructor(
    addon: NativeAddon,
    ranges: readonly RamRange[],
    onLost: () => void = () => {},
    name = 'tsvm-ram',
  ) {
    this.#addon = addon;
    this.#onLost = onLost;
    const regions: Region[] = [];
    let firstPage = 0;
    try {
      for (const range of ranges) {
        for (let offset = 0; offset < range.length; offset += MAX_REGION_BYTES) {
          const length = Math.min(MAX_REGION_BYTES, range.length - offset);
          const memory = addon.createMemory(length, name);
          regions.push({ addr: range.addr + offset, memory, firstPage, pages: length / PAGE_BYTES });
          firstPage += length / PAGE_BYTES;
        }
      }
    } catch (error) {
      for (const { memory } of regions) memory.close();
      throw error;
    }
    this.regions = regions;
    this.sizeBytes = firstPage * PAGE_BYTES;
  }

  /** As mapped here, for `createGuestMemory`. */
  get mapped(): readonly MemoryRegion[] {
    return this.regions.map(({ addr, memory }) => ({ addr, bytes: new Uint8Array(memory.buffer) }));
  }

  /** Replaces the contents by a view of `base`, which stays the caller's. Before the guest runs. */
  adopt(base: RamBase): void {
    base.mapInto(this);
    this.#shared = false;
  }

  /** The same, and `base` is this RAM's from now on: to be given to forks until the first write. */
  own(base: RamBase): void {
    this.adopt(base);
    this.#base = base;
  }

  /** Replaces parts of the contents by views of files. For a {@link RamBase} of files, or a file by itself. */
  mapFiles(pieces: readonly FilePiece[]): void {
    this.#lost ??= this.#listenForLoss();
    for (const piece of pieces) {
      for (const { memory, firstPage, pages } of this.regions) {
        const from = Math.max(piece.first, firstPage);
        const to = Math.min(piece.first + piece.count, firstPage + pages);
        if (from >= to) continue;
        const fileOffset = piece.fileOffset + (from - piece.first) * PAGE_BYTES;
        const length = (to - from) * PAGE_BYTES;
        memory.mapFile(piece.fd, fileOffset, (from - firstPage) * PAGE_BYTES, length, this.#lost);
      }
    }
    this.#filePages = pieces;
  }

  #listenForLoss(): NativeEventFd {
    const lost = this.#addon.createEventFd();
    lost.listen(this.#onLost);
    return lost;
  }

  get hasFiles(): boolean {
    return this.#filePages.length > 0;
  }

  /** Looks at every page that came from a file: if one was truncated, `onLost` is called in the next turn. */
  probeFiles(): void {
    for (const run of this.#filePages) {
      for (const bytes of this.bytesOf(run)) {
        for (let at = 0; at < bytes.length; at += PAGE_BYTES) bytes.at(at);
      }
    }
  }

  /** The guest is about to run, or a device to write: the base is no longer all there is. */
  touch(): void {
    this.#base?.close();
    this.#base = undefined;
  }

  /**
   * Makes the present contents a base for others. Nobody may write meanwhile, and `touch` must come before the next write.
   *
   * Costs nothing but a mapping for memory that was never private, and none for memory that was not written since it was
   * adopted or frozen; else a copy of all that is in use.
   */
  freeze(): RamBase {
    if (this.#base !== undefined) return this.#base;
    this.#base = this.#shared ? this.#freezeOwn() : this.#copy();
    return this.#base;
  }

  #freezeOwn(): RamBase {
    for (const { memory } of this.regions) memory.freeze();
    this.#shared = false;
    return memoryBase(
      this.regions.map(({ memory }) => memory),
      () => {},
    );
  }

  #copy(): RamBase {
    const copies: NativeMemory[] = [];
    const close = (): void => {
      for (const copy of copies) copy.close();
    };
    try {
      for (const region of this.regions) {
        const copy = this.#addon.createMemory(region.pages * PAGE_BYTES, 'tsvm-ram');
        copies.push(copy);
        const source = new Uint8Array(region.memory.buffer);
        const target = new Uint8Array(copy.buffer);
        for (const { first, count } of this.#dataPagesOf(region)) {
          const from = (first - region.firstPage) * PAGE_BYTES;
          target.set(source.subarray(from, from + count * PAGE_BYTES), from);
        }
        copy.freeze();
      }
    } catch (error) {
      close();
      throw error;
    }
    return memoryBase(copies, close);
  }

  /**
   * Gives the host back what these views of RAM hold, in whole pages: of memory that is shared, the memory itself; of private
   * copies of a base's pages, the copies. Nobody may use them meanwhile, nor freeze.
   */
  async release(views: readonly Uint8Array[]): Promise<void> {
    await Promise.all(
      this.regions.map(async ({ memory }) => {
        const runs: number[] = [];
        for (const { buffer, byteOffset, length } of views) {
          const first = Math.ceil(byteOffset / PAGE_BYTES);
          const end = Math.floor((byteOffset + length) / PAGE_BYTES);
          if (buffer === memory.buffer && first < end) runs.push(first, end - first);
        }
        if (runs.length > 0) await memory.release(Uint32Array.from(runs));
      }),
    );
  }

  /** Pages that may hold something other than zeroes. */
  dataPages(): PageRun[] {
    return this.regions.flatMap((region) => this.#dataPagesOf(region));
  }

  /** Pages that differ, or may differ, from the files that were mapped: copies of theirs, and where there was none. */
  writtenPages(): PageRun[] {
    return this.regions.flatMap(({ memory, firstPage }) => runsOf(memory.dataPages(), firstPage));
  }

  #dataPagesOf(region: Region): PageRun[] {
    const own = runsOf(region.memory.dataPages(), region.firstPage);
    const end = region.firstPage + region.pages;
    const ofFiles = this.#filePages
      .map(({ first, count }) => {
        const from = Math.max(first, region.firstPage);
        return { first: from, count: Math.min(first + count, end) - from };
      })
      .filter(({ count }) => count > 0);
    return ofFiles.length === 0 ? own : mergeRuns([...own, ...ofFiles]);
  }

  /** The bytes of a run that lies in one region, as the guest sees them now. */
  *bytesOf(run: PageRun): Generator<Uint8Array> {
    for (const { memory, firstPage, pages } of this.regions) {
      const from = Math.max(run.first, firstPage);
      const to = Math.min(run.first + run.count, firstPage + pages);
      if (from < to)
        yield new Uint8Array(memory.buffer, (from - firstPage) * PAGE_BYTES, (to - from) * PAGE_BYTES);
    }
  }

  close(): void {
    this.touch();
    for (const { memory } of this.regions) memory.close();
    this.#lost?.close();
  }
}

/** @param close what to do when nobody will map it any more. */
function memoryBase(memories: readonly NativeMemory[], close: () => void): RamBase {
  return {
    mapInto(ram) {
      ram.regions.forEach(({ memory }, i) => {
        memory.mapMemory(memories[i] as NativeMemory);
      });
    },
    close,
  };
}

function runsOf(pairs: Uint32Array, firstPage: number): PageRun[] {
  const runs: PageRun[] = [];
  for (let i = 0; i < pairs.length; i += 2)
    runs.push({ first: firstPage + (pairs[i] as number), count: pairs[i + 1] as number });
  return runs;
}

/** Sorted, without overlaps; runs that touch become one. */
export function mergeRuns(runs: readonly PageRun[]): PageRun[] {
  const merged: { first: number; count: number }[] = [];
  for (const { first, count } of [...runs].sort((a, b) => a.first - b.first)) {
    const last = merged.at(-1);
    if (last !== undefined && first <= last.first + last.count)
      last.count = Math.max(last.first + last.count, first + count) - last.first;
    else merged.push({ first, count });
  }
  return merged;
}
