/** A raw disk image, or a block device, behind a virtio disk. I/O goes straight between file and guest memory. */
import type { BigIntStats, Stats } from 'node:fs';
import { constants, type FileHandle } from 'node:fs/promises';
import { TsvmError } from '../../errors.js';
import type { NativeAddon } from '../../native/binding.js';
import { warnOperator } from '../../util/operator-warning.js';
import { totalBytes } from '../../util/units.js';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from './fallocate.js';
import { openImage } from './image-file.js';
import { DiskIo } from './io.js';
import type { Layer } from './layer.js';
import { BufferCursor, wholeTransfer } from './transfer.js';

const SECTOR_BYTES = 512;

/** Zeroes written where the file system cannot punch or zero a range. */
const ZEROES = new Uint8Array(64 * 1024);

/**
 * Opens a disk and locks it: one machine may write to it, or any number may read it. The lock is flock(2)'s and goes with
 * the process.
 *
 * @throws TsvmError `TSVM_DISK`, naming the path.
 */
export async function openDiskFile(
  addon: NativeAddon,
  path: string,
  options: { readOnly: boolean },
): Promise<DiskFile> {
  const { readOnly } = options;
  const file = await openDisk(path, readOnly, warnOperator);
  try {
    const sizeBytes = await diskBytes(addon, file, path);
    if (!addon.flock(file.fd, readOnly ? 'shared' : 'exclusive')) {
      throw new TsvmError('TSVM_DISK', `disk ${path} is in use by another machine`, {
        hint: 'two machines may share a disk only if both open it read-only: `blk({ path, readOnly: true })`',
      });
    }
    return new DiskFile(addon, file, sizeBytes, readOnly);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Looks whether a disk could be opened, as far as that can be told without the addon.
 *
 * @throws TsvmError `TSVM_DISK` as {@link openDiskFile}.
 */
export async function lookAtDiskFile(path: string, options: { readonly readOnly: boolean }): Promise<void> {
  const file = await openDisk(path, options.readOnly);
  try {
    const stat = await file.stat();
    if (stat.isFile()) refuseTiny(path, stat.size);
  } finally {
    await file.close();
  }
}

function openDisk(path: string, readOnly: boolean, warn?: (text: string) => void): Promise<FileHandle> {
  return openImage(
    path,
    {
      what: 'disk',
      code: 'TSVM_DISK',
      flags: readOnly ? constants.O_RDONLY : constants.O_RDWR,
      hint: readOnly
        ? 'check the path'
        : 'check the path and its permissions, or add ,ro to open it read-only',
      check: (stats) => checkKind(stats, path),
    },
    warn,
  );
}

function checkKind(stat: Stats, path: string): void {
  if (stat.isDirectory()) {
    throw new TsvmError('TSVM_DISK', `cannot open disk ${path}: it is a directory`, {
      hint: 'give a raw image or a block device',
    });
  }
  if (!stat.isFile() && !stat.isBlockDevice()) {
    throw new TsvmError('TSVM_DISK', `disk ${path} is neither a file nor a block device`, {
      hint: 'give a raw image',
    });
  }
}

/** Whole sectors: one that the file ends in counts, and is filled up with zeroes (see {@link DiskFile.readv}). */
async function diskBytes(addon: NativeAddon, file: FileHandle, path: string): Promise<number> {
  const stat = await file.stat();
  const bytes = stat.isFile() ? stat.size : addon.blockDeviceBytes(file.fd);
  refuseTiny(path, bytes);
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

function refuseTiny(path: string, bytes: number): void {
  if (bytes >= SECTOR_BYTES) return;
  throw new TsvmError('TSVM_DISK', `disk ${path} is shorter than a sector: ${bytes} bytes`, {
    hint: `make it larger: truncate -s 64M ${path}`,
  });
}

export class DiskFile implements Layer {
  readonly differsFromFile = false;
  #sizeBytes: number;
  readonly readOnly: boolean;
  readonly #addon: NativeAddon;
  readonly #file: FileHandle;
  readonly #io: DiskIo;

  constructor(addon: NativeAddon, file: FileHandle, sizeBytes: number, readOnly: boolean) {
    this.#addon = addon;
    this.#file = file;
    this.#io = new DiskIo(addon, file.fd);
    this.#sizeBytes = sizeBytes;
    this.readOnly = readOnly;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Facts of the file as fstat(2) has them now. */
  async stat(): Promise<BigIntStats> {
    return await this.#file.stat({ bigint: true });
  }

  /** Zeroes follow a file that ends within its last sector; a write to that sector makes it whole. */
  async readv(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    const done = await wholeTransfer(buffers, offset, (rest, at) => this.#io.readv(rest, at));
    const wanted = totalBytes(buffers);
    if (
      done === wanted ||
      offset + wanted > this.#sizeBytes ||
      offset + done <= this.#sizeBytes - SECTOR_BYTES
    )
      return done;
    const cursor = new BufferCursor(buffers);
    cursor.take(done);
    for (const rest of cursor.take(wanted - done)) rest.fill(0);
    return wanted;
  }

  async writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return await wholeTransfer(buffers, offset, (rest, at) => this.#io.writev(rest, at));
  }

  /** fdatasync(2): data, and the metadata that is needed to read it back. */
  async flush(): Promise<void> {
    await this.#io.datasync();
  }

  async discard(offset: number, length: number): Promise<void> {
    try {
      await this.#io.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    } catch (error) {
      if (!isUnsupported(error)) throw error;
      // A discard is a hint: a file system without holes keeps the data.
    }
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    const mode = mayUnmap
      ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
      : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    try {
      await this.#io.fallocate(mode, offset, length);
      return;
    } catch (error) {
      if (!isUnsupported(error)) throw error;
    }
    for (let done = 0; done < length; ) {
      const piece = ZEROES.subarray(0, Math.min(ZEROES.length, length - done));
      const written = await this.writev([piece], offset + done);
      if (written === 0) throw new Error('short write');
      done += written;
    }
  }

  /** The size that it would have if it were opened now. @throws TsvmError `TSVM_DISK`, naming the path. */
  async measure(path: string): Promise<number> {
    return await diskBytes(this.#addon, this.#file, path);
  }

  /** A file is made longer where it is not so long; a block device must be so already. */
  async resize(bytes: number): Promise<void> {
    const stat = await this.#file.stat();
    if (!stat.isFile() && this.#addon.blockDeviceBytes(this.#file.fd) < bytes)
      throw new TsvmError('TSVM_DISK', `the block device is smaller than ${bytes} bytes`);
    if (stat.isFile() && stat.size <= bytes - SECTOR_BYTES) await this.#file.truncate(bytes);
    this.#sizeBytes = bytes;
  }

  async close(): Promise<void> {
    try {
      // The guest may have turned off without a flush; what it wrote is not lost to a crash of the host soon after.
      if (!this.readOnly) await this.flush();
    } finally {
      this.#io.close();
      await this.#file.close();
    }
  }
}

function isUnsupported(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return (
    code === 'EOPNOTSUPP' || code === 'ENOSYS' || code === 'ENOTSUP' || code === 'EINVAL' || code === 'ENODEV'
  );
}
