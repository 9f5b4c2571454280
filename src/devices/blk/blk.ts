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
import type { Chain } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { BlockBackend, DiskControl } from '../backends/disk.js';
import { InFlight } from '../in-flight.js';
import type { DeviceKind, DeviceRequest } from '../kind.js';
import { checkLimit, type RateLimit, RateLimiter, restoredLimit } from '../rate-limit.js';
import {
  BLK_ARGUMENT,
  type BlkConfig,
  blkHostUse,
  blkPaths,
  checkBlkConfig,
  checkId,
  parseBlk,
} from './config.js';
import {
  type BlkCounters,
  BlkRequests,
  MAX_RANGE_SECTORS,
  MAX_RANGES,
  SECTOR_BYTES,
  STATUS_BYTES,
  statusOf,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
} from './request.js';

const DEVICE_ID = 2;
const QUEUE_SIZE = 256;

export const VIRTIO_BLK_F_SEG_MAX = 1n << 2n;
export const VIRTIO_BLK_F_RO = 1n << 5n;
export const VIRTIO_BLK_F_BLK_SIZE = 1n << 6n;
export const VIRTIO_BLK_F_FLUSH = 1n << 9n;
export const VIRTIO_BLK_F_MQ = 1n << 12n;
export const VIRTIO_BLK_F_DISCARD = 1n << 13n;
export const VIRTIO_BLK_F_WRITE_ZEROES = 1n << 14n;

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

/**
 * Linux makes requests of 1280 KiB, unless its administrator lets it make larger ones (max_sectors_kb). Nothing of one is copied, and the
 * backend gets it in pieces.
 */
const MAX_REQUEST_BYTES = 64 << 20;

/** Requests that the backend has at a time, of all queues. More would only wait there. */
const MAX_IN_FLIGHT = 32;
export interface BlkOptions {
  readonly backend: BlockBackend;
  /** Serial number of the disk, as the guest reads it; at most 20 bytes of ASCII. */
  readonly id?: string;
  /** Default: one. */
  readonly queues?: number;
  /** Runs a task soon, but after the I/O events that are already waiting. Default: setImmediate. */
  readonly defer?: (task: () => void) => void;
  readonly limit?: RateLimit;
  readonly clock?: Clock;
}

export class Blk implements VirtioDevice, DiskControl {
  readonly name = 'blk';
  readonly deviceId = DEVICE_ID;
  readonly features: bigint;
  readonly id: string;
  readonly queueSizes: readonly number[];
  readonly maxRequestBytes: readonly number[];
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
  #backend: BlockBackend;
  readonly #requests: BlkRequests;
  readonly #defer: (task: () => void) => void;
  readonly #configView: DataView;
  readonly #clock: Clock;
  readonly #limiter: RateLimiter;
  #context: VirtioContext | undefined;
  /** Index of the queue whose turn it is. */
  #turn = 0;
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
  #flushScheduled = false;

  constructor(options: BlkOptions) {
    const { backend, id = '', queues = 1 } = options;
    this.#backend = backend;
    this.id = id;
    this.#requests = new BlkRequests(backend, id, this.counters);
    this.queueSizes = new Array<number>(queues).fill(QUEUE_SIZE);
    this.maxRequestBytes = this.queueSizes.map(() => MAX_REQUEST_BYTES);
    this.#defer = options.defer ?? ((task) => void setImmediate(task));
    this.#clock = options.clock ?? systemClock;
    this.#limiter = new RateLimiter(options.limit ?? {}, this.#clock, () => this.#pumpLater());
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
    view.setBigUint64(CONFIG_CAPACITY, BigInt(this.#requests.sectorCount), true);
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

  get backend(): BlockBackend {
    return this.#backend;
  }

  get readOnly(): boolean {
    return this.#backend.readOnly;
  }

  get sizeBytes(): number {
    return this.#requests.sectorCount * SECTOR_BYTES;
  }

  async grow(bytes: number): Promise<void> {
    if (!Number.isSafeInteger(bytes) || bytes % SECTOR_BYTES !== 0 || bytes <= this.sizeBytes)
      throw new TsvmError(
        'TSVM_CONFIG',
        `disk: ${bytes} bytes are not more than its ${this.sizeBytes}, in sectors of 512`,
      );
    if (this.readOnly || this.#backend.resize === undefined)
      throw new TsvmError('TSVM_DISK', 'a disk that is only read cannot grow');
    await this.#backend.resize(bytes);
    this.#requests.sectorCount = bytes / SECTOR_BYTES;
    this.#capacityChanged();
  }

  #capacityChanged(): void {
    this.#configView.setBigUint64(CONFIG_CAPACITY, BigInt(this.#requests.sectorCount), true);
    this.#context?.configChanged();
  }

  get limit(): RateLimit {
    return this.#limiter.limit;
  }

  setLimit(limit: RateLimit): void {
    this.#limiter.set(checkLimit(limit));
  }

  /**
   * Puts another disk in the place of this one; returns the old one, for the caller to close. Only while the device is drained: no
   * request is between the two. The guest is told of the new size, as it is when a disk grows.
   */
  replaceBackend(backend: BlockBackend): BlockBackend {
    const old = this.#backend;
    this.#backend = backend;
    this.#requests.replaceBackend(backend);
    this.#capacityChanged();
    return old;
  }

  activate(context: VirtioContext): void {
    this.#context = context;
  }

  notify(): void {
    this.#pump();
  }

  /** Pumps for a timer or the backend, not for the driver. */
  #pumpLater(): void {
    this.#context?.enter(() => this.#pump());
  }

  /** Takes requests as long as the backend may have more of them. */
  #pump(): void {
    const context = this.#context;
    if (context === undefined) return;
    const { queues } = context;
    // Each in its turn, so that none starves, until none has anything.
    for (let empty = 0; empty < queues.length; ) {
      if (!this.#inFlight.hasRoom || !this.#limiter.open) break;
      this.#turn = (this.#turn + 1) % queues.length;
      const queue = queues[this.#turn];
      const chain = queue?.pop();
      if (queue === undefined || chain === undefined) {
        empty++;
      } else {
        empty = 0;
        this.#start(context, queue, chain);
      }
    }
    for (const queue of queues) queue?.signal();
  }

  #start(context: VirtioContext, queue: Virtqueue, chain: Chain): void {
    if (chain.writer.length < STATUS_BYTES) {
      // Nothing can be told to a driver that left no room for it.
      queue.complete(chain, 0);
      context.needsReset('blk: a request has no room for its status');
      return;
    }
    const writeThrough = (context.features & VIRTIO_BLK_F_FLUSH) === 0n;
    const job = this.#requests.parse(chain, writeThrough);
    this.#limiter.charge(bytesOf(chain));
    if ('status' in job) {
      this.#complete(queue, chain, job.status, job.written);
      return;
    }
    const startMs = this.#clock.nowMs();
    this.#inFlight.begin();
    const finish = (status: number): void =>
      context.enter(() => {
        this.durations.request.record(this.#clock.nowMs() - startMs);
        this.#finish(queue, chain, status, job.written);
      });
    job.run(queue).then(finish, (error: unknown) => finish(statusOf(error)));
  }

  /** The backend is done with a request. Whatever else finishes in this turn of the event loop shares its interrupt. */
  #finish(queue: Virtqueue, chain: Chain, status: number, written: number): void {
    if (status === VIRTIO_BLK_S_IOERR) this.counters.ioErrors++;
    if (queue.alive) this.#complete(queue, chain, status, written);
    else queue.complete(chain, 0); // nobody waits for its status
    this.#inFlight.end();
    if (this.#inFlight.isEmpty) {
      this.#pump();
    } else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      this.#defer(() => {
        this.#flushScheduled = false;
        this.#pumpLater();
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

  reset(): void | Promise<void> {
    this.#limiter.stop();
    this.#context = undefined;
    if (!this.#inFlight.isEmpty) return this.#inFlight.none();
  }

  drain(): Promise<void> {
    return this.#inFlight.none();
  }

  save(): DeviceState {
    return { version: 2, sectorCount: this.#requests.sectorCount, limit: this.#limiter.limit };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 2);
    const { sectorCount, limit } = state as { sectorCount?: unknown; limit?: unknown };
    checkState(
      sectorCount === this.#requests.sectorCount,
      `blk: the disk had ${sectorCount} sectors, not ${this.#requests.sectorCount}`,
    );
    this.#limiter.set(restoredLimit(limit));
  }

  /** Waits for what is in flight, flushes and closes the backend. */
  async close(): Promise<void> {
    this.#limiter.stop();
    this.#context = undefined;
    await this.#inFlight.none();
    try {
      if (!this.#backend.readOnly) await this.#backend.flush();
    } finally {
      await this.#backend.close();
    }
  }
}

/** Bytes that a request counts for its limit: all that it moves, its header and status too. */
const bytesOf = ({ reader, writer }: Chain): number => reader.length + writer.length;

/** Closes it then. @throws TsvmError `TSVM_DISK` */
export async function refuseTiny(path: string, backend: BlockBackend): Promise<void> {
  if (backend.sizeBytes >= SECTOR_BYTES) return;
  await backend.close();
  throw new TsvmError('TSVM_DISK', `disk ${path}: ${backend.sizeBytes} bytes is less than a sector`, {
    hint: `make it larger, for example: truncate -s 1G ${path}`,
  });
}

/** Asks for a virtio-blk over a raw disk image. */
export function blk(config: BlkConfig): DeviceRequest {
  checkId(config);
  const checked = checkBlkConfig(config);
  const { path, readOnly = false, id, overlay, direct, queues } = checked;
  return {
    kind: 'blk',
    config: { ...checked, readOnly },
    look: (host) => host.disk(path, { readOnly, overlay }),
    async open(host) {
      const backend = await host.openDisk(path, { readOnly, overlay, direct });
      await refuseTiny(path, backend);
      return new Blk({
        backend,
        limit: checked,
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
  paths: blkPaths,
  hostUse: blkHostUse,
};
