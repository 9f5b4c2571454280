/**
 * virtio-blk: a disk over an asynchronous backend that reads and writes guest memory in place.
 *
 * Durability is the driver's choice: one that accepts FLUSH has a write-back cache, and flushes when it needs to; for one
 * that does not, every write is on stable storage before it completes.
 *
 * @spec virtio-1.3 5.2    Block device                   #yes
 * @spec virtio-1.3 5.2.3  VIRTIO_BLK_F_CONFIG_WCE        #no   the driver's own choice of FLUSH is enough
 * @spec virtio-1.3 5.2.3  VIRTIO_BLK_F_SECURE_ERASE      #no
 * @spec virtio-1.3 5.2.3  VIRTIO_BLK_F_ZONED, _LIFETIME  #no
 */
import { TsvmError } from '../../errors.js';
import { type Clock, systemClock } from '../../util/clock.js';
import { DurationHistogram } from '../../util/histogram.js';
import { checkState, checkStateVersion } from '../../util/state.js';
import { MIB } from '../../util/units.js';
import type { Chain, ChainReader } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import { BLK_ARGUMENT, type BlkConfig, checkBlkConfig, checkId, ID_BYTES, parseBlk } from '../blk-config.js';
import type { DeviceKind, DeviceRequest } from '../device-kind.js';
import type { BlockBackend, DiskControl } from '../host.js';
import { InFlight } from '../in-flight.js';
import { limitOf, newLimiter, type RateLimit, type RateLimiter } from '../rate-limit.js';

const DEVICE_ID = 2;
const QUEUE_SIZE = 256;
export const SECTOR_BYTES = 512;

export const VIRTIO_BLK_F_SEG_MAX = 1n << 2n;
export const VIRTIO_BLK_F_RO = 1n << 5n;
export const VIRTIO_BLK_F_BLK_SIZE = 1n << 6n;
export const VIRTIO_BLK_F_FLUSH = 1n << 9n;
export const VIRTIO_BLK_F_MQ = 1n << 12n;
export const VIRTIO_BLK_F_DISCARD = 1n << 13n;
export const VIRTIO_BLK_F_WRITE_ZEROES = 1n << 14n;

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
const STATUS_BYTES = 1;
/** struct virtio_blk_discard_write_zeroes: sector, sector count, flags. */
const RANGE_BYTES = 16;
const RANGE_FLAG_UNMAP = 1;

// struct virtio_blk_config (virtio 1.3, 5.2.4)
const CONFIG_BYTES = 60;
const CONFIG_CAPACITY = 0;
const CONFIG_SEG_MAX = 12;
const CONFIG_BLK_SIZE = 20;
const CONFIG_NUM_QUEUES = 34;
const CONFIG_MAX_DISCARD_SECTORS = 36;
const CONFIG_MAX_DISCARD_SEG = 40;
const CONFIG_DISCARD_ALIGNMENT = 44;
const CONFIG_MAX_WRITE_ZEROES_SECTORS = 48;
const CONFIG_MAX_WRITE_ZEROES_SEG = 52;
const CONFIG_WRITE_ZEROES_MAY_UNMAP = 56;

/** Requests that the backend has at a time, of all queues. More would only wait there. */
const MAX_IN_FLIGHT = 32;
/** A greater transfer goes to the backend in pieces, so that no guest holds one of the disk's threads for long. */
const MAX_IO_BYTES = 4 * MIB;
/** Buffers in one call of the backend: IOV_MAX. */
const MAX_IO_BUFFERS = 1024;
/** Ranges in a discard or write-zeroes request, and sectors (1 GiB) in each: bounds the time that one takes. */
const MAX_RANGES = 32;
const MAX_RANGE_SECTORS = 1 << 21;

export interface BlkOptions {
  readonly backend: BlockBackend;
  /** What the guest reads as the disk's serial number; at most 20 bytes of ASCII. */
  readonly id?: string;
  /** Default: one. */
  readonly queues?: number;
  /** Runs a task soon, but after the I/O events that are already waiting. Default: setImmediate. */
  readonly defer?: (task: () => void) => void;
  readonly limit?: RateLimit;
  readonly clock?: Clock;
}

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

/** What a request asks for, checked; or the status that answers it at once. */
type Job =
  | { readonly run: () => Promise<number>; readonly written: number }
  | { readonly status: number; readonly written: number };

export class Blk implements VirtioDevice, DiskControl {
  readonly name = 'blk';
  readonly deviceId = DEVICE_ID;
  readonly features: bigint;
  readonly id: string;
  readonly queueSizes: readonly number[];
  readonly config: ConfigSpace;
  readonly counters: BlkCounters = {
    reads: 0,
    readBytes: 0,
    writes: 0,
    writtenBytes: 0,
    flushes: 0,
    discards: 0,
    ioErrors: 0,
  };
  readonly durations = { request: new DurationHistogram() };
  readonly #backend: BlockBackend;
  readonly #serial: Uint8Array;
  readonly #defer: (task: () => void) => void;
  readonly #configView: DataView;
  #sectorCount: number;
  readonly #clock: Clock;
  readonly #limiter: RateLimiter | undefined;
  #context: VirtioContext | undefined;
  /** Whose turn it is. */
  #turn = 0;
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
  #flushScheduled = false;
  /** Counts resets: what was begun before one must not touch guest memory after it. */
  #epoch = 0;

  constructor(options: BlkOptions) {
    const { backend, id = '', queues = 1 } = options;
    this.#backend = backend;
    this.id = id;
    this.#serial = new TextEncoder().encode(id).subarray(0, ID_BYTES);
    this.queueSizes = new Array<number>(queues).fill(QUEUE_SIZE);
    this.#defer = options.defer ?? ((task) => void setImmediate(task));
    this.#clock = options.clock ?? systemClock;
    this.#limiter = newLimiter(options.limit, this.#clock, () => this.#pump());
    this.#sectorCount = Math.floor(backend.sizeBytes / SECTOR_BYTES);
    this.features =
      VIRTIO_BLK_F_SEG_MAX |
      VIRTIO_BLK_F_BLK_SIZE |
      VIRTIO_BLK_F_FLUSH |
      (queues > 1 ? VIRTIO_BLK_F_MQ : 0n) |
      (backend.readOnly ? VIRTIO_BLK_F_RO : 0n) |
      (backend.discard !== undefined && !backend.readOnly ? VIRTIO_BLK_F_DISCARD : 0n) |
      (backend.writeZeroes !== undefined && !backend.readOnly ? VIRTIO_BLK_F_WRITE_ZEROES : 0n);
    const bytes = new Uint8Array(CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(CONFIG_CAPACITY, BigInt(this.#sectorCount), true);
    view.setUint32(CONFIG_SEG_MAX, QUEUE_SIZE - 2, true); // header and status take a descriptor each
    view.setUint32(CONFIG_BLK_SIZE, SECTOR_BYTES, true);
    view.setUint16(CONFIG_NUM_QUEUES, queues, true);
    view.setUint32(CONFIG_MAX_DISCARD_SECTORS, MAX_RANGE_SECTORS, true);
    view.setUint32(CONFIG_MAX_DISCARD_SEG, MAX_RANGES, true);
    view.setUint32(CONFIG_DISCARD_ALIGNMENT, 1, true);
    view.setUint32(CONFIG_MAX_WRITE_ZEROES_SECTORS, MAX_RANGE_SECTORS, true);
    view.setUint32(CONFIG_MAX_WRITE_ZEROES_SEG, MAX_RANGES, true);
    view.setUint8(CONFIG_WRITE_ZEROES_MAY_UNMAP, 1);
    this.config = { bytes };
    this.#configView = view;
  }

  get readOnly(): boolean {
    return this.#backend.readOnly;
  }

  get sizeBytes(): number {
    return this.#sectorCount * SECTOR_BYTES;
  }

  async grow(bytes: number): Promise<void> {
    if (!Number.isSafeInteger(bytes) || bytes % SECTOR_BYTES !== 0 || bytes <= this.sizeBytes)
      throw new TsvmError(
        'TSVM_CONFIG',
        `disk: ${bytes} bytes are not more than its ${this.sizeBytes}, in sectors of 512`,
      );
    if (this.readOnly || this.#backend.grow === undefined)
      throw new TsvmError('TSVM_DISK', 'a disk that is only read cannot grow');
    await this.#backend.grow(bytes);
    this.#sectorCount = bytes / SECTOR_BYTES;
    this.#configView.setBigUint64(CONFIG_CAPACITY, BigInt(this.#sectorCount), true);
    this.#context?.configChanged();
  }

  activate(context: VirtioContext): void {
    this.#context = context;
  }

  notify(): void {
    this.#pump();
  }

  /** Takes requests as long as the backend may have more of them. */
  #pump(): void {
    const queues = this.#context?.queues ?? [];
    // Each in its turn, so that none starves, until none has anything.
    for (let empty = 0; empty < queues.length; ) {
      if (!this.#inFlight.hasRoom || this.#limiter?.open === false) break;
      this.#turn = (this.#turn + 1) % queues.length;
      const queue = queues[this.#turn];
      const chain = queue?.pop();
      if (queue === undefined || chain === undefined) {
        empty++;
      } else {
        empty = 0;
        this.#start(queue, chain);
      }
    }
    for (const queue of queues) queue?.signal();
  }

  #start(queue: Virtqueue, chain: Chain): void {
    if (chain.writer.length < STATUS_BYTES) {
      // Nothing can be told to a driver that left no room for it.
      queue.complete(chain, 0);
      this.#context?.needsReset('blk: a request has no room for its status');
      return;
    }
    const job = this.#parse(chain);
    this.#limiter?.charge(bytesOf(chain));
    if ('status' in job) {
      this.#complete(queue, chain, job.status, job.written);
      return;
    }
    const epoch = this.#epoch;
    const startMs = this.#clock.nowMs();
    this.#inFlight.begin();
    const finish = (status: number): void => {
      this.durations.request.record(this.#clock.nowMs() - startMs);
      this.#finish(queue, chain, status, job.written, epoch);
    };
    job.run().then(finish, (error: unknown) => finish(statusOf(error)));
  }

  /** The backend is done with a request. Whatever else finishes in this turn of the event loop shares its interrupt. */
  #finish(queue: Virtqueue, chain: Chain, status: number, written: number, epoch: number): void {
    if (status === VIRTIO_BLK_S_IOERR) this.counters.ioErrors++;
    if (epoch === this.#epoch) this.#complete(queue, chain, status, written);
    this.#inFlight.end();
    if (this.#inFlight.isEmpty) {
      this.#pump();
    } else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      this.#defer(() => {
        this.#flushScheduled = false;
        this.#pump();
      });
    }
  }

  /** `written`: bytes at the start of the writable part that a successful request filled. */
  #complete(queue: Virtqueue, chain: Chain, status: number, written: number): void {
    const { writer } = chain;
    writer.skip(writer.remaining - STATUS_BYTES);
    writer.writeU8(status);
    // virtio 1.3, 2.7.8.2: at least `len` bytes from the start were written. After an error that is none, unless
    // there was nothing but the status.
    const filled = status === VIRTIO_BLK_S_OK ? written : 0;
    queue.complete(chain, filled === writer.length - STATUS_BYTES ? writer.length : filled);
  }

  /** Reads a request once, and decides; nothing that the guest changes later is looked at again. */
  #parse(chain: Chain): Job {
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
        this.counters.reads++;
        this.counters.readBytes += room;
        return {
          run: () =>
            this.#transfer((buffers, offset) => backend.readv(buffers, offset), views, sector * SECTOR_BYTES),
          written: room,
        };
      }
      case VIRTIO_BLK_T_OUT: {
        const length = reader.remaining;
        // virtio 1.3, 5.2.6.2 MUST: a write to a read-only device fails with IOERR, whatever was negotiated.
        if (backend.readOnly || !this.#inRange(sector, length)) return failed(VIRTIO_BLK_S_IOERR);
        const views = reader.take(length);
        this.counters.writes++;
        this.counters.writtenBytes += length;
        return { run: () => this.#write(views, sector * SECTOR_BYTES), written: 0 };
      }
      case VIRTIO_BLK_T_FLUSH:
        if (backend.readOnly) return { status: VIRTIO_BLK_S_OK, written: 0 };
        this.counters.flushes++;
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
        return this.#parseRanges(type, reader);
      default:
        return failed(VIRTIO_BLK_S_UNSUPP);
    }
  }

  #parseRanges(
    type: typeof VIRTIO_BLK_T_DISCARD | typeof VIRTIO_BLK_T_WRITE_ZEROES,
    reader: ChainReader,
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
    this.counters.discards++;
    const epoch = this.#epoch;
    const flushAfter = !discarding && this.#writeThrough;
    return {
      written: 0,
      run: async () => {
        for (const { offset, length, mayUnmap } of ranges) {
          if (epoch !== this.#epoch) return VIRTIO_BLK_S_IOERR;
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
    return length % SECTOR_BYTES === 0 && sector + length / SECTOR_BYTES <= this.#sectorCount;
  }

  /** virtio 1.3, 5.2.6.2: without FLUSH, a write may not complete before it is on stable storage. */
  get #writeThrough(): boolean {
    return ((this.#context?.features ?? 0n) & VIRTIO_BLK_F_FLUSH) === 0n;
  }

  async #write(views: readonly Uint8Array[], offset: number): Promise<number> {
    const backend = this.#backend;
    const flushAfter = this.#writeThrough; // now: a reset forgets it
    const status = await this.#transfer((buffers, at) => backend.writev(buffers, at), views, offset);
    if (status === VIRTIO_BLK_S_OK && flushAfter) await backend.flush();
    return status;
  }

  async #transfer(
    io: (buffers: readonly Uint8Array[], offset: number) => Promise<number>,
    views: readonly Uint8Array[],
    offset: number,
  ): Promise<number> {
    const epoch = this.#epoch;
    let at = offset;
    for (const { buffers, length } of pieces(views)) {
      if (epoch !== this.#epoch) return VIRTIO_BLK_S_IOERR;
      if ((await io(buffers, at)) !== length) return VIRTIO_BLK_S_IOERR;
      at += length;
    }
    return VIRTIO_BLK_S_OK;
  }

  reset(): void | Promise<void> {
    this.#epoch++;
    this.#limiter?.stop();
    this.#context = undefined;
    if (!this.#inFlight.isEmpty) return this.#inFlight.none();
  }

  drain(): Promise<void> {
    return this.#inFlight.drain();
  }

  resume(): void {
    this.#inFlight.resume();
  }

  save(): DeviceState {
    return { version: 1, sectorCount: this.#sectorCount };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
    const { sectorCount } = state as { sectorCount?: unknown };
    checkState(
      sectorCount === this.#sectorCount,
      `blk: the disk had ${sectorCount} sectors, not ${this.#sectorCount}`,
    );
  }

  /** Waits for what is in flight, flushes and closes the backend. */
  async close(): Promise<void> {
    this.#epoch++;
    this.#limiter?.stop();
    this.#context = undefined;
    await this.#inFlight.none();
    try {
      if (!this.#backend.readOnly) await this.#backend.flush();
    } finally {
      await this.#backend.close();
    }
  }
}

/** What a request counts for its limit: all that it moves, its header and status too. */
const bytesOf = ({ reader, writer }: Chain): number => reader.length + writer.length;

function failed(status: number): Job {
  return { status, written: 0 };
}

/** What the guest is told of an error of the backend's. */
function statusOf(error: unknown): number {
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

/** Asks for a virtio-blk over a raw disk image. */
export function blk(config: BlkConfig): DeviceRequest {
  checkId(config);
  const checked = checkBlkConfig(config);
  const { path, readOnly = false, id, overlay, queues } = checked;
  const limit = limitOf(checked);
  return {
    kind: 'blk',
    config: { ...checked, readOnly },
    async open(host) {
      const backend = await host.openDisk(path, { readOnly, overlay });
      if (backend.sizeBytes < SECTOR_BYTES) {
        await backend.close();
        throw new TsvmError('TSVM_DISK', `disk ${path}: ${backend.sizeBytes} bytes is less than a sector`, {
          hint: `make it larger, for example: truncate -s 1G ${path}`,
        });
      }
      return new Blk({
        backend,
        limit,
        ...(id === undefined ? {} : { id }),
        ...(queues === undefined ? {} : { queues }),
      });
    },
  };
}

export const blkKind: DeviceKind = {
  summary: 'a disk (vda, vdb, ...) over a raw image file',
  guestKconfig: 'CONFIG_VIRTIO_BLK',
  cliFlag: 'disk',
  cliRepeatable: true,
  cliArgument: BLK_ARGUMENT,
  fromCli: (text) => blk(parseBlk(text)),
  fromConfig: (config) => blk(checkBlkConfig(config)),
};
