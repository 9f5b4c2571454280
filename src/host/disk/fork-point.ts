/** Clusters that forks of a disk read while the disk goes on: see cow-disk.ts. */
import { Cleanup } from '../../util/cleanup.js';
import { totalBytes } from '../../util/units.js';
import { type ByteRange, ClusterSet, clusterRuns, RangeLock, wholeClusters } from './cluster-set.js';
import type { DiskBase, Layer } from './layer.js';
import { ScratchFile, type ScratchMaker } from './scratch-file.js';
import { BufferCursor, scatter } from './transfer.js';

/** Copied at a time before a write. */
const COPY_BYTES = 256 * 1024;

/** A disk that is closed with the last who uses it. */
export class SharedDisk {
  readonly disk: Layer;
  #users = 1;

  constructor(disk: Layer) {
    this.disk = disk;
  }

  get isShared(): boolean {
    return this.#users > 1;
  }

  use(): this {
    this.#users++;
    return this;
  }

  async release(): Promise<void> {
    if (--this.#users === 0) await this.disk.close();
  }
}

/** A disk's contents as they were: what was overwritten since is kept here, the rest is still there. */
export class ForkPoint implements DiskBase {
  readonly sizeBytes: number;
  readonly #shared: SharedDisk;
  readonly #scratch: ScratchFile;
  readonly #onClosed: () => void;
  /** Clusters that are kept, or would be. */
  readonly #kept = new ClusterSet();
  /** Clusters that could not be kept. */
  readonly #lost = new ClusterSet();
  /** Lock over clusters that are being copied. */
  readonly #lock = new RangeLock();
  /** The next fork point of the same disk. What is overwritten after that is kept there only. */
  #next: ForkPoint | undefined;
  #users = 1;

  constructor(maker: ScratchMaker, shared: SharedDisk, onClosed: () => void) {
    this.#shared = shared.use();
    this.sizeBytes = shared.disk.sizeBytes;
    this.#scratch = new ScratchFile(maker, this.sizeBytes);
    this.#onClosed = onClosed;
  }

  /** Tells whether nothing was overwritten since. */
  get isEmpty(): boolean {
    return this.#kept.isEmpty;
  }

  get differsFromFile(): boolean {
    for (let point: ForkPoint | undefined = this; point !== undefined; point = point.#next) {
      if (!point.isEmpty) return true;
    }
    return this.#shared.disk.differsFromFile;
  }

  has(cluster: number): boolean {
    return this.#kept.has(cluster);
  }

  use(): this {
    this.#users++;
    return this;
  }

  followedBy(next: ForkPoint): void {
    this.#next = next.use();
  }

  /**
   * Copies what `range` holds, as far as it is not kept yet; afterwards the disk may overwrite it. Never rejects: what cannot
   * be copied is lost to those who read the fork point, not to the disk's own machine.
   */
  async keep(range: ByteRange): Promise<void> {
    if (this.#kept.hasAll(range)) return;
    this.use(); // the last fork may be closed meanwhile
    try {
      const clusters = wholeClusters(range, this.sizeBytes);
      await this.#lock.run(clusters, async () => {
        for (const run of clusterRuns(clusters, (cluster) => this.#kept.has(cluster))) {
          if (!run.source) await this.#copy(run);
        }
      });
    } finally {
      await this.close();
    }
  }

  async #copy(range: ByteRange): Promise<void> {
    const buffer = new Uint8Array(Math.min(COPY_BYTES, range.end - range.offset));
    for (let { offset } = range; offset < range.end; offset += buffer.length) {
      const bytes = buffer.subarray(0, range.end - offset);
      const piece = { offset, end: offset + bytes.length };
      try {
        await transferred(this.#shared.disk.readv([bytes], offset), bytes);
        // What is not written to the scratch file reads as zeroes.
        if (!isZero(bytes)) await transferred(this.#scratch.writev([bytes], offset), bytes);
      } catch {
        this.#lost.addAll(piece);
      }
      this.#kept.addAll(piece);
    }
  }

  async readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    const cursor = new BufferCursor(buffers);
    const keeperOf = (cluster: number): ForkPoint | undefined => this.#keeperOf(cluster);
    let done = 0;
    for (const run of clusterRuns({ offset, end: offset + totalBytes(buffers) }, keeperOf)) {
      const length = run.end - run.offset;
      const piece = cursor.take(length);
      const moved = await (run.source === undefined
        ? this.#readDisk(run, piece, keeperOf)
        : run.source.#readKept(run, piece));
      done += moved;
      if (moved < length) break;
    }
    return done;
  }

  /**
   * Reads what the disk had not overwritten when the read began. What it did overwrite meanwhile was kept before, and is read
   * again from there: so no write ever waits for a fork's read. The fork's guest may look at its buffers all the time, and sees nothing
   * of what was written meanwhile: they get it when it is the fork's.
   */
  async #readDisk(
    range: ByteRange,
    buffers: readonly Uint8Array[],
    keeperOf: (cluster: number) => ForkPoint | undefined,
  ): Promise<number> {
    const { disk } = this.#shared;
    if (disk.readOnly) return await disk.readv(buffers, range.offset);
    const cursor = new BufferCursor(buffers);
    for (let { offset } = range; offset < range.end; offset += COPY_BYTES) {
      const piece = { offset, end: Math.min(range.end, offset + COPY_BYTES) };
      const bytes = new Uint8Array(piece.end - offset);
      const moved = await disk.readv([bytes], offset);
      for (const run of clusterRuns(piece, keeperOf)) {
        const kept = bytes.subarray(run.offset - offset, run.end - offset);
        if (run.source !== undefined) await run.source.#readKept(run, [kept]);
      }
      scatter(bytes, cursor.take(bytes.length));
      if (moved < bytes.length) return offset - range.offset + moved;
    }
    return range.end - range.offset;
  }

  async #readKept(range: ByteRange, buffers: readonly Uint8Array[]): Promise<number> {
    for (const run of clusterRuns(range, (cluster) => this.#lost.has(cluster))) {
      if (run.source) throw ioError('a part of the disk could not be kept for this fork');
    }
    return await this.#scratch.readv(buffers, range.offset);
  }

  /** The oldest fork point, from this one on, that keeps the cluster; undefined if the disk still has it. */
  #keeperOf(cluster: number): ForkPoint | undefined {
    for (let point: ForkPoint | undefined = this; point !== undefined; point = point.#next) {
      if (point.#kept.has(cluster)) return point;
    }
    return undefined;
  }

  /** Tells that one of the users needs it no more. */
  async close(): Promise<void> {
    if (--this.#users > 0) return;
    this.#onClosed();
    const cleanup = new Cleanup();
    cleanup.defer(() => this.#shared.release());
    cleanup.defer(() => this.#next?.close());
    cleanup.defer(() => this.#scratch.close());
    await cleanup.run();
  }
}

async function transferred(moved: Promise<number>, bytes: Uint8Array): Promise<void> {
  if ((await moved) < bytes.length) throw ioError('short transfer');
}

function isZero(bytes: Uint8Array): boolean {
  // Every byte is as the one before it, and the first is zero.
  return bytes[0] === 0 && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}

function ioError(message: string): Error {
  return Object.assign(new Error(message), { code: 'EIO' });
}
