/** Set of the clusters of a disk that a layer has: a bitmap that takes memory only where bits are set. */

/** Bytes that are copied at a time: the unit of a guest's file system and of host memory. */
export const CLUSTER_BYTES = 4096;

/** A page of the bitmap, for 128 MiB of disk. */
export const BITMAP_PAGE_BYTES = 4096;
const PAGE_CLUSTERS = BITMAP_PAGE_BYTES * 8;

/** Number of pages that the bitmap of a whole disk has. */
export function pagesOf(diskBytes: number): number {
  return Math.ceil(diskBytes / (PAGE_CLUSTERS * CLUSTER_BYTES));
}

export class ClusterSet {
  readonly #pages = new Map<number, Uint32Array>();

  get isEmpty(): boolean {
    return this.#pages.size === 0;
  }

  has(cluster: number): boolean {
    const bit = cluster % PAGE_CLUSTERS;
    const word = this.#pages.get((cluster - bit) / PAGE_CLUSTERS)?.[bit >>> 5] ?? 0;
    return (word & (1 << (bit & 31))) !== 0;
  }

  /** Every cluster that `range` touches. */
  hasAll(range: ByteRange): boolean {
    for (let cluster = firstCluster(range); cluster < endCluster(range); cluster++) {
      if (!this.has(cluster)) return false;
    }
    return true;
  }

  /** A page of the bitmap: bit `b` of word `w` is cluster `32w + b` of the page. */
  page(index: number): Uint32Array {
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new Uint32Array(BITMAP_PAGE_BYTES / 4);
      this.#pages.set(index, page);
    }
    return page;
  }

  setPage(index: number, words: Uint32Array): void {
    this.#pages.set(index, words);
  }

  /** Adds every cluster that `range` touches. Returns the pages where one was missing. */
  addAll(range: ByteRange): Set<number> {
    const changed = new Set<number>();
    for (let cluster = firstCluster(range); cluster < endCluster(range); cluster++) {
      const bit = cluster % PAGE_CLUSTERS;
      const index = (cluster - bit) / PAGE_CLUSTERS;
      const page = this.page(index);
      const word = page[bit >>> 5] ?? 0;
      if ((word & (1 << (bit & 31))) !== 0) continue;
      page[bit >>> 5] = word | (1 << (bit & 31));
      changed.add(index);
    }
    return changed;
  }
}

/** Bytes of a disk, from `offset` to before `end`. */
export interface ByteRange {
  readonly offset: number;
  readonly end: number;
}

const firstCluster = (range: ByteRange): number => Math.floor(range.offset / CLUSTER_BYTES);
const endCluster = (range: ByteRange): number => Math.ceil(range.end / CLUSTER_BYTES);

/** The whole clusters that `range` touches, the last of which may be cut short by the end of the disk. */
export function wholeClusters(range: ByteRange, diskBytes: number): ByteRange {
  return {
    offset: firstCluster(range) * CLUSTER_BYTES,
    end: Math.min(endCluster(range) * CLUSTER_BYTES, diskBytes),
  };
}

/** The whole clusters inside `range`; empty, or even `end < offset`, if there is none. */
export function innerClusters(range: ByteRange, diskBytes: number): ByteRange {
  return {
    offset: endCluster({ offset: 0, end: range.offset }) * CLUSTER_BYTES,
    end: range.end === diskBytes ? diskBytes : Math.floor(range.end / CLUSTER_BYTES) * CLUSTER_BYTES,
  };
}

/** Cuts `range` where the answer of `sourceOf` changes. It is asked as late as possible: the answers may change meanwhile. */
export function* clusterRuns<Source>(
  range: ByteRange,
  sourceOf: (cluster: number) => Source,
): Generator<ByteRange & { readonly source: Source }> {
  for (let offset = range.offset; offset < range.end; ) {
    let cluster = Math.floor(offset / CLUSTER_BYTES);
    const source = sourceOf(cluster);
    do cluster++;
    while (cluster * CLUSTER_BYTES < range.end && sourceOf(cluster) === source);
    const end = Math.min(cluster * CLUSTER_BYTES, range.end);
    yield { offset, end, source };
    offset = end;
  }
}

/** Lets tasks over the same clusters run one after the other. Only what holds no range may ask for one. */
export class RangeLock {
  readonly #held = new Set<ByteRange & { readonly released: Promise<void> }>();

  /** @param range whole clusters */
  async run<T>(range: ByteRange, task: () => Promise<T>): Promise<T> {
    for (let other = this.#holder(range); other !== undefined; other = this.#holder(range)) {
      await other.released;
    }
    let release = (): void => {};
    const hold = {
      ...range,
      released: new Promise<void>((resolve) => {
        release = resolve;
      }),
    };
    this.#held.add(hold);
    try {
      return await task();
    } finally {
      this.#held.delete(hold);
      release();
    }
  }

  #holder(range: ByteRange): { readonly released: Promise<void> } | undefined {
    for (const hold of this.#held) if (hold.offset < range.end && range.offset < hold.end) return hold;
    return undefined;
  }
}
