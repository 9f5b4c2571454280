/**
 * Disks that can be forked: parent and fork go on from the same contents, and each sees only its own writes.
 *
 * ```text
 *   parent CowDisk                       fork CowDisk
 *      │ reads, writes                      │ reads, writes
 *      │                                 OverlayDisk   the fork's own clusters, in memory
 *      │    before a write: copy            │ reads
 *      ├────────────────────────────────▶ ForkPoint    the parent's old clusters, in memory
 *      ▼                                    │ reads what the parent has not overwritten
 *   inner disk (a file) ◀───────────────────┘
 * ```
 *
 * The parent's writes stay in its file, as durable as before. What they cost the forks (memory, failures of theirs) is the
 * forks' loss. All forks between two writes share a fork point; an older one reads through the newer ones.
 */
import assert from 'node:assert';
import type { BlockBackend } from '../../devices/backends/disk.js';
import { TsvmError } from '../../errors.js';
import { totalBytes } from '../../util/units.js';
import { type ByteRange, clusterRuns } from './cluster-set.js';
import { ForkPoint, SharedDisk } from './fork-point.js';
import type { Layer } from './layer.js';
import { MemoryStore } from './memory-store.js';
import { OverlayDisk } from './overlay-disk.js';
import type { ScratchMaker } from './scratch-file.js';

export class CowDisk implements Required<BlockBackend> {
  readonly readOnly: boolean;
  readonly #maker: ScratchMaker;
  readonly #disk: Layer;
  readonly #shared: SharedDisk;
  /** Point that living forks read from; undefined while there are none. */
  #latest: ForkPoint | undefined;
  /** Writes in flight that began while there were forks. */
  #writing = 0;
  #closed = false;

  /** Closes `disk` when it and all its forks are closed. */
  constructor(maker: ScratchMaker, disk: Layer) {
    this.readOnly = disk.readOnly;
    this.#maker = maker;
    this.#disk = disk;
    this.#shared = new SharedDisk(disk);
  }

  get sizeBytes(): number {
    return this.#disk.sizeBytes;
  }

  /** Tells whether the contents are not, or were once not, those of a file: then no file can stand for them. */
  get differsFromFile(): boolean {
    return this.#disk.differsFromFile;
  }

  /**
   * A disk with the contents of this one. It keeps what it writes in memory, and lives on when this one is closed.
   * Nothing that writes may be in flight: the machine is paused, its devices drained.
   */
  fork(): CowDisk {
    assert(!this.#closed, 'fork of a closed disk');
    assert(this.#writing === 0, 'fork of a disk that is being written');
    const base = this.#forkPoint();
    return new CowDisk(
      this.#maker,
      new OverlayDisk(new MemoryStore(this.#maker, base.sizeBytes), base, { readOnly: this.readOnly }),
    );
  }

  #forkPoint(): ForkPoint {
    const older = this.#latest;
    if (older?.isEmpty) return older.use();
    const latest = new ForkPoint(this.#maker, this.#shared, () => {
      if (this.#latest === latest) this.#latest = undefined;
    });
    older?.followedBy(latest);
    this.#latest = latest;
    return latest;
  }

  readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return this.#disk.readv(buffers, offset);
  }

  writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    if (this.#latest === undefined) return this.#disk.writev(buffers, offset);
    const range = { offset, end: offset + totalBytes(buffers) };
    return this.#keep(this.#latest, range, () => this.#disk.writev(buffers, offset));
  }

  flush(): Promise<void> {
    return this.#disk.flush();
  }

  /** Discards a range, but for what forks still read from here: a discard is a hint, and not worth copying what nobody wants. */
  discard(offset: number, length: number): Promise<void> {
    const latest = this.#latest;
    if (latest === undefined) return this.#disk.discard(offset, length);
    return this.#counted(async () => {
      for (const run of clusterRuns({ offset, end: offset + length }, (cluster) => latest.has(cluster))) {
        if (run.source) await this.#disk.discard(run.offset, run.end - run.offset);
      }
    });
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    if (this.#latest === undefined) return this.#disk.writeZeroes(offset, length, mayUnmap);
    const range = { offset, end: offset + length };
    return this.#keep(this.#latest, range, () => this.#disk.writeZeroes(offset, length, mayUnmap));
  }

  async resize(bytes: number): Promise<void> {
    if (this.#disk.resize === undefined)
      throw new TsvmError('TSVM_DISK', 'the size of a disk with an overlay cannot change');
    if (this.#latest !== undefined)
      throw new TsvmError('TSVM_DISK', 'the size of a disk cannot change while there are forks of it');
    await this.#disk.resize(bytes);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      // The last to close it flushes it too, which may be long after.
      if (this.#shared.isShared && !this.readOnly) await this.#disk.flush();
    } finally {
      await this.#shared.release();
    }
  }

  #keep<T>(point: ForkPoint, range: ByteRange, write: () => Promise<T>): Promise<T> {
    return this.#counted(async () => {
      await point.keep(range);
      return await write();
    });
  }

  async #counted<T>(task: () => Promise<T>): Promise<T> {
    this.#writing++;
    try {
      return await task();
    } finally {
      this.#writing--;
    }
  }
}
