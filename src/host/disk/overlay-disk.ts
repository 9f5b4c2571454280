/** A layer that takes the writes, over a disk that does not change. */
import assert from 'node:assert';
import { totalBytes } from '../../util/units.js';
import {
  type ByteRange,
  CLUSTER_BYTES,
  clusterRuns,
  innerClusters,
  RangeLock,
  wholeClusters,
} from './cluster-set.js';
import type { ClusterStore } from './cluster-store.js';
import type { DiskBase, Layer } from './layer.js';
import { BufferCursor } from './transfer.js';

const ZEROES = new Uint8Array(CLUSTER_BYTES);

export class OverlayDisk implements Layer {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #base: DiskBase;
  readonly #store: ClusterStore;
  /** Lock over clusters that are becoming our own. */
  readonly #lock = new RangeLock();

  /** Closes both when it is closed. */
  constructor(store: ClusterStore, base: DiskBase, options: { readonly readOnly: boolean }) {
    this.sizeBytes = base.sizeBytes;
    this.readOnly = options.readOnly;
    this.#base = base;
    this.#store = store;
  }

  get differsFromFile(): boolean {
    return (!this.#store.own.isEmpty && !this.#store.isDurable) || this.#base.differsFromFile;
  }

  async readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    if (this.#store.own.isEmpty) return await this.#base.readv(buffers, offset);
    const cursor = new BufferCursor(buffers);
    const range = { offset, end: offset + totalBytes(buffers) };
    let done = 0;
    for (const run of clusterRuns(range, (cluster) => this.#store.own.has(cluster))) {
      const length = run.end - run.offset;
      const moved = await (run.source ? this.#store : this.#base).readv(cursor.take(length), run.offset);
      done += moved;
      if (moved < length) break;
    }
    return done;
  }

  async writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    assert(!this.readOnly);
    const range = { offset, end: offset + totalBytes(buffers) };
    if (this.#store.own.hasAll(range)) return await this.#store.writev(buffers, offset);
    const clusters = wholeClusters(range, this.sizeBytes);
    return await this.#lock.run(clusters, async () => {
      const before = await this.#fill({ offset: clusters.offset, end: offset });
      const after = await this.#fill({ offset: range.end, end: clusters.end });
      const written = await this.#store.writev(
        [...before, ...buffers, ...after],
        offset - totalBytes(before),
      );
      if (written < totalBytes(before) + totalBytes(buffers) + totalBytes(after)) return 0;
      // Not before now: until here, reads got what the base has.
      this.#store.keep(clusters);
      return range.end - offset;
    });
  }

  /** Reads what a write must add at its edge, part of a cluster, so that it makes the whole cluster our own. */
  async #fill(edge: ByteRange): Promise<Uint8Array[]> {
    const length = edge.end - edge.offset;
    if (length === 0 || this.#store.own.hasAll(edge)) return [];
    const bytes = new Uint8Array(length);
    if ((await this.#base.readv([bytes], edge.offset)) < length) throw new Error('short read');
    return [bytes];
  }

  flush(): Promise<void> {
    return this.#store.flush();
  }

  /** Parts of clusters stay as they are. */
  async discard(offset: number, length: number): Promise<void> {
    assert(!this.readOnly);
    const clusters = innerClusters({ offset, end: offset + length }, this.sizeBytes);
    if (clusters.offset >= clusters.end) return;
    await this.#lock.run(clusters, async () => {
      await this.#store.punch(clusters.offset, clusters.end - clusters.offset);
      this.#store.keep(clusters);
    });
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    const range = { offset, end: offset + length };
    const clusters = innerClusters(range, this.sizeBytes);
    if (clusters.offset >= clusters.end) {
      for (const run of clusterRuns(range, (cluster) => cluster)) await this.#zero(run);
      return;
    }
    await this.#zero({ offset, end: clusters.offset });
    await this.discard(clusters.offset, clusters.end - clusters.offset);
    await this.#zero({ offset: clusters.end, end: range.end });
  }

  /** @param range within a cluster */
  async #zero(range: ByteRange): Promise<void> {
    const length = range.end - range.offset;
    if (length > 0 && (await this.writev([ZEROES.subarray(0, length)], range.offset)) < length) {
      throw new Error('short write');
    }
  }

  async close(): Promise<void> {
    try {
      await this.#store.close();
    } finally {
      await this.#base.close();
    }
  }
}
