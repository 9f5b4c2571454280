/**
 * Requests of a virtio-blk (virtio 1.3, 5.2.6): read once, checked, and made into work for the backend.
 *
 * @spec virtio-1.3 5.2.6  Block requests  #yes
 */
import { MIB } from '../../util/units.js';
import type { Chain, ChainReader } from '../../virtio/chain.js';
import type { Virtqueue } from '../../virtio/device.js';
import type { BlockBackend } from '../backends/disk.js';
import { ID_BYTES } from './config.js';

export const SECTOR_BYTES = 512;

// Request types (virtio 1.3, 5.2.6).
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

const HEADER_BYTES = 16;
export const STATUS_BYTES = 1;
/** struct virtio_blk_discard_write_zeroes: sector, sector count, flags. */
const RANGE_BYTES = 16;
const RANGE_FLAG_UNMAP = 1;

/** A greater transfer goes to the backend in pieces, so that no guest holds one of the disk's threads for long. */
const MAX_IO_BYTES = 4 * MIB;
/** Buffers in one call of the backend: IOV_MAX. */
const MAX_IO_BUFFERS = 1024;
/** Ranges in a discard or write-zeroes request, and sectors (1 GiB) in each: bounds the time that one takes. */
export const MAX_RANGES = 32;
export const MAX_RANGE_SECTORS = 1 << 21;

export type BlkCounters = {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
  flushes: number;
  /** Write-zeroes requests, too. */
  discards: number;
  /** Requests that the backend failed. */
  ioErrors: number;
};

/** Queue that a request came from. Once it is dead nobody waits for the request, and what has not begun of it is left. */
type Asker = Pick<Virtqueue, 'alive'>;

/** Work that a request asks for, checked; or the status that answers it at once. */
export type Job =
  | { readonly run: (asker: Asker) => Promise<number>; readonly written: number }
  | { readonly status: number; readonly written: number };

export class BlkRequests {
  sectorCount: number;
  #backend: BlockBackend;
  readonly #serial: Uint8Array;
  readonly #counters: BlkCounters;

  constructor(backend: BlockBackend, id: string, counters: BlkCounters) {
    this.#backend = backend;
    this.#serial = new TextEncoder().encode(id).subarray(0, ID_BYTES);
    this.#counters = counters;
    this.sectorCount = Math.floor(backend.sizeBytes / SECTOR_BYTES);
  }

  /** Only while none runs. */
  replaceBackend(backend: BlockBackend): void {
    this.#backend = backend;
    this.sectorCount = Math.floor(backend.sizeBytes / SECTOR_BYTES);
  }

  /**
   * Reads a request once, and decides; nothing that the guest changes later is looked at again.
   *
   * @param writeThrough virtio 1.3, 5.2.6.2: without FLUSH, a write may not complete before it is on stable storage.
   */
  parse(chain: Chain, writeThrough: boolean): Job {
    const { reader, writer } = chain;
    const room = writer.length - STATUS_BYTES;
    if (reader.length < HEADER_BYTES) return failed(VIRTIO_BLK_S_IOERR);
    const type = reader.readU32();
    reader.skip(4);
    const low = reader.readU32();
    const high = reader.readU32();
    // Inexact beyond 2^53, where it is beyond every disk too.
    const sector = high * 0x1_0000_0000 + low;
    const backend = this.#backend;
    switch (type) {
      case VIRTIO_BLK_T_IN: {
        if (!this.#inRange(sector, room)) return failed(VIRTIO_BLK_S_IOERR);
        const views = writer.take(room);
        this.#counters.reads++;
        this.#counters.readBytes += room;
        return {
          run: (asker) =>
            transfer(
              asker,
              (buffers, offset) => backend.readv(buffers, offset),
              views,
              sector * SECTOR_BYTES,
            ),
          written: room,
        };
      }
      case VIRTIO_BLK_T_OUT: {
        const length = reader.remaining;
        // virtio 1.3, 5.2.6.2 MUST: a write to a read-only device fails with IOERR, whatever was negotiated.
        if (backend.readOnly || !this.#inRange(sector, length)) return failed(VIRTIO_BLK_S_IOERR);
        const views = reader.take(length);
        this.#counters.writes++;
        this.#counters.writtenBytes += length;
        return { run: (asker) => this.#write(asker, views, sector * SECTOR_BYTES, writeThrough), written: 0 };
      }
      case VIRTIO_BLK_T_FLUSH:
        if (backend.readOnly) return { status: VIRTIO_BLK_S_OK, written: 0 };
        this.#counters.flushes++;
        return { run: () => backend.flush().then(() => VIRTIO_BLK_S_OK), written: 0 };
      case VIRTIO_BLK_T_GET_ID: {
        // The string is not terminated if it has all 20 bytes (virtio 1.3, 5.2.6).
        const count = Math.min(room, ID_BYTES);
        writer.write(this.#serial.subarray(0, count));
        writer.fill(count - Math.min(this.#serial.length, count), 0);
        return { status: VIRTIO_BLK_S_OK, written: count };
      }
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#parseRanges(type, reader, writeThrough);
      default:
        return failed(VIRTIO_BLK_S_UNSUPP);
    }
  }

  #parseRanges(
    type: typeof VIRTIO_BLK_T_DISCARD | typeof VIRTIO_BLK_T_WRITE_ZEROES,
    reader: ChainReader,
    writeThrough: boolean,
  ): Job {
    const backend = this.#backend;
    const discarding = type === VIRTIO_BLK_T_DISCARD;
    if (backend.readOnly) return failed(VIRTIO_BLK_S_IOERR);
    if ((discarding ? backend.discard : backend.writeZeroes) === undefined)
      return failed(VIRTIO_BLK_S_UNSUPP);
    const count = reader.remaining / RANGE_BYTES;
    if (!Number.isInteger(count) || count < 1 || count > MAX_RANGES) return failed(VIRTIO_BLK_S_IOERR);
    const ranges: { offset: number; length: number; mayUnmap: boolean }[] = [];
    for (let i = 0; i < count; i++) {
      const low = reader.readU32();
      const high = reader.readU32();
      const sector = high * 0x1_0000_0000 + low;
      const sectors = reader.readU32();
      const flags = reader.readU32();
      // virtio 1.3, 5.2.6.2 MUST: unknown flags are UNSUPP, and so is unmap in a discard.
      if ((flags & ~(discarding ? 0 : RANGE_FLAG_UNMAP)) !== 0) return failed(VIRTIO_BLK_S_UNSUPP);
      const length = sectors * SECTOR_BYTES;
      if (sectors > MAX_RANGE_SECTORS || !this.#inRange(sector, length)) return failed(VIRTIO_BLK_S_IOERR);
      ranges.push({ offset: sector * SECTOR_BYTES, length, mayUnmap: (flags & RANGE_FLAG_UNMAP) !== 0 });
    }
    this.#counters.discards++;
    const flushAfter = !discarding && writeThrough;
    return {
      written: 0,
      run: async (asker) => {
        for (const { offset, length, mayUnmap } of ranges) {
          if (!asker.alive) return VIRTIO_BLK_S_IOERR;
          if (length === 0) continue;
          if (discarding) await backend.discard?.(offset, length);
          else await backend.writeZeroes?.(offset, length, mayUnmap);
        }
        if (flushAfter) await backend.flush();
        return VIRTIO_BLK_S_OK;
      },
    };
  }

  #inRange(sector: number, length: number): boolean {
    return length % SECTOR_BYTES === 0 && sector + length / SECTOR_BYTES <= this.sectorCount;
  }

  async #write(
    asker: Asker,
    views: readonly Uint8Array[],
    offset: number,
    flushAfter: boolean,
  ): Promise<number> {
    const backend = this.#backend;
    const status = await transfer(asker, (buffers, at) => backend.writev(buffers, at), views, offset);
    if (status === VIRTIO_BLK_S_OK && flushAfter) await backend.flush();
    return status;
  }
}

async function transfer(
  asker: Asker,
  io: (buffers: readonly Uint8Array[], offset: number) => Promise<number>,
  views: readonly Uint8Array[],
  offset: number,
): Promise<number> {
  let at = offset;
  for (const { buffers, length } of pieces(views)) {
    if (!asker.alive || (await io(buffers, at)) !== length) return VIRTIO_BLK_S_IOERR;
    at += length;
  }
  return VIRTIO_BLK_S_OK;
}

function failed(status: number): Job {
  return { status, written: 0 };
}

/** Status by which the guest is told of an error of the backend's. */
export function statusOf(error: unknown): number {
  const code = (error as { code?: unknown } | undefined)?.code;
  return code === 'EOPNOTSUPP' || code === 'ENOTSUP' ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/** Cuts a list of buffers into lists that one call of the backend may have. */
function* pieces(views: readonly Uint8Array[]): Generator<{ buffers: Uint8Array[]; length: number }> {
  let buffers: Uint8Array[] = [];
  let length = 0;
  for (const view of views) {
    for (let at = 0; at < view.length; ) {
      const here = Math.min(view.length - at, MAX_IO_BYTES - length);
      buffers.push(here === view.length ? view : view.subarray(at, at + here));
      at += here;
      length += here;
      if (length === MAX_IO_BYTES || buffers.length === MAX_IO_BUFFERS) {
        yield { buffers, length };
        buffers = [];
        length = 0;
      }
    }
  }
  if (length > 0) yield { buffers, length };
}
