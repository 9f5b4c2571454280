/** Backend of a disk, and the changes that are made to one from outside the guest. */
import type { RateLimit } from '../rate-limit.js';

/**
 * A disk's contents. Every method is asynchronous and works on the guest's memory as it is, without a copy.
 *
 * Reads and writes resolve to the number of bytes done; less than asked for is an error to the guest. Rejections are
 * errors to the guest too, and go no further.
 */
export interface BlockBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readv(buffers: readonly Uint8Array[], offset: number): Promise<number>;
  writev(buffers: readonly Uint8Array[], offset: number): Promise<number>;
  /** Everything written before is on stable storage when this resolves. */
  flush(): Promise<void>;
  /** The range's contents are no longer needed; reading it may give anything that was there, or zeroes. */
  discard?(offset: number, length: number): Promise<void>;
  /** The range reads as zeroes. `mayUnmap`: storage may be given back. */
  writeZeroes?(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** `sizeBytes` is `bytes` when this resolves. What it is kept in is made larger for that, and never smaller. */
  resize?(bytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface DiskOptions {
  readonly readOnly: boolean;
  /** A file that takes what is written; it is made if it is not there. */
  readonly overlay?: string | undefined;
  /** Tells whether what is written goes to the file, or to memory. Default: as the host was made. */
  readonly direct?: boolean | undefined;
}

/** A disk of a machine. */
export interface DiskControl {
  /** Serial number; empty if it has none. */
  readonly id: string;
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  /**
   * Makes the disk larger, and tells the guest. `bytes`: a multiple of 512.
   *
   * @throws TsvmError `TSVM_DISK` if it cannot: it is read-only, has an overlay, or there are forks of it; `TSVM_CONFIG` if that is not larger.
   */
  grow(bytes: number): Promise<void>;
  readonly limit: RateLimit;
  /** Limits how fast it may be from now on, with full buckets; `{}`: as fast as it can. @throws TsvmError `TSVM_CONFIG` */
  setLimit(limit: RateLimit): void;
}
