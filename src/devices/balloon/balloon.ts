/**
 * virtio-balloon: the guest gives memory back to the host, asked for (inflation) or by itself (free page reporting).
 *
 * What is given back is dropped by the host's side, on another thread, before the driver gets its buffers back. Its contents are
 * anything afterwards, which both ways of giving allow.
 *
 * @spec virtio-1.3 5.5        Traditional memory balloon device     #yes
 * @spec virtio-1.3 5.5.6.3    Memory statistics                     #yes
 * @spec virtio-1.3 5.5.6.6    Free page hinting                     #no   for live migration, which there is none of
 * @spec virtio-1.3 5.5.6.7    Page poison                           #no   contents would have to be kept
 * @spec virtio-1.3 5.5.6.8    Free page reporting                   #yes
 */
import { GuestError, TsvmError } from '../../errors.js';
import { type Clock, systemClock } from '../../util/clock.js';
import { checkState, checkStateVersion } from '../../util/state.js';
import { totalBytes } from '../../util/units.js';
import type { Chain, ChainReader } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { BalloonControl, BalloonHost, BalloonStats } from '../backends/balloon.js';
import type { DeviceKind, DeviceRequest } from '../kind.js';
import { plainKind } from '../plain-kind.js';
import { readStats } from './stats.js';

const DEVICE_ID = 5;
const QUEUE_SIZE = 128;

// virtio 1.3, 5.5.3. MUST_TELL_HOST is not offered: a page that the guest takes back is there as soon as it is touched.
const VIRTIO_BALLOON_F_STATS_VQ = 1n << 1n;
const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 1n << 2n;
const VIRTIO_BALLOON_F_PAGE_REPORTING = 1n << 5n;

// Queue indices (virtio 1.3, 5.5.2). Those of features that were not negotiated do not exist, and do not count.
const INFLATE = 0;
const DEFLATE = 1;
const FIRST_OPTIONAL = 2;

// struct virtio_balloon_config (virtio 1.3, 5.5.4), as far as the features go.
const CONFIG_BYTES = 8;
const CONFIG_NUM_PAGES = 0;
const CONFIG_ACTUAL = 4;

/** virtio 1.3, 5.5.6: page numbers are of 4 KiB pages, whatever the guest's are. */
const BALLOON_PAGE_BYTES = 4096;
/** Linux gives 256 at a time. What a request has beyond this is left alone. */
const MAX_REQUEST_PAGES = 4096;
/** A list of page numbers; of a longer one, the rest is left alone, up to here. */
const MAX_LIST_BYTES = 1 << 20;
/** Linux reports 32 free blocks at a time, of 4 MiB at most; one that merges them reports more. Nothing of a report is copied. */
const MAX_REPORT_BYTES = 1 << 30;
/** A guest answers a question for statistics within milliseconds, where its kernel is interpreted within a second. */
const ANSWER_MS = 5000;

export type BalloonCounters = {
  /** Bytes that were given to the host to drop, by inflation and by reports, over and over. */
  inflatedBytes: number;
  reportedBytes: number;
  /** Page numbers beyond RAM, or beyond what a request may have. */
  badPages: number;
  /** Requests whose memory could not be dropped. */
  failures: number;
};

interface Question {
  readonly resolve: (stats: BalloonStats) => void;
  readonly reject: (error: Error) => void;
  readonly callOff: () => void;
}

export class Balloon implements VirtioDevice, BalloonControl {
  readonly name = 'balloon';
  readonly deviceId = DEVICE_ID;
  readonly features =
    VIRTIO_BALLOON_F_STATS_VQ | VIRTIO_BALLOON_F_DEFLATE_ON_OOM | VIRTIO_BALLOON_F_PAGE_REPORTING;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  /** Limits by index, since the features that were negotiated decide which of the optional queues has it. */
  readonly maxRequestBytes = [MAX_LIST_BYTES, MAX_LIST_BYTES, MAX_REPORT_BYTES, MAX_REPORT_BYTES];
  readonly config: ConfigSpace;
  readonly counters: BalloonCounters = { inflatedBytes: 0, reportedBytes: 0, badPages: 0, failures: 0 };
  readonly #host: BalloonHost;
  readonly #clock: Clock;
  readonly #configView: DataView;
  readonly #pages = new Uint32Array(MAX_REQUEST_PAGES);
  readonly #releasing = new Set<Promise<void>>();
  #context: VirtioContext | undefined;
  /** Indices of the optional queues; undefined for one that was not negotiated. */
  #statsIndex: number | undefined;
  #reportsIndex: number | undefined;
  /** The driver's buffer, kept until statistics are wanted (5.5.6.3). */
  #statsBuffer: Chain | undefined;
  /** It was given back, and the next will hold an answer. */
  #asked = false;
  #questions: Question[] = [];

  constructor(host: BalloonHost, clock: Clock = systemClock) {
    this.#host = host;
    this.#clock = clock;
    const bytes = new Uint8Array(CONFIG_BYTES);
    this.#configView = new DataView(bytes.buffer);
    this.config = {
      bytes,
      // virtio 1.3, 5.5.6.1: `actual` is the driver's to write, the rest is not.
      write: (offset, data) => {
        if (offset >= CONFIG_ACTUAL) bytes.set(data, offset);
      },
    };
  }

  get targetBytes(): number {
    return this.#configView.getUint32(CONFIG_NUM_PAGES, true) * BALLOON_PAGE_BYTES;
  }

  get actualBytes(): number {
    return this.#configView.getUint32(CONFIG_ACTUAL, true) * BALLOON_PAGE_BYTES;
  }

  setTarget(bytes: number): void {
    this.#configView.setUint32(CONFIG_NUM_PAGES, Math.floor(bytes / BALLOON_PAGE_BYTES), true);
    this.#context?.configChanged();
  }

  stats(): Promise<BalloonStats> {
    const queue = this.#stats;
    if (queue === undefined)
      return Promise.reject(unanswered('the guest has no driver that gives statistics'));
    return new Promise((resolve, reject) => {
      const callOff = this.#clock.after(ANSWER_MS, () => {
        this.#questions = this.#questions.filter((other) => other !== question);
        reject(unanswered('the guest gave no statistics'));
      });
      const question: Question = { resolve, reject, callOff };
      this.#questions.push(question);
      // Linux makes its first buffer available before DRIVER_OK, when a notification is not heard.
      this.#context?.enter(() => this.#takeStats(queue));
    });
  }

  activate(context: VirtioContext): void {
    this.#context = context;
    let next = FIRST_OPTIONAL;
    const optional = (feature: bigint): number | undefined =>
      (context.features & feature) === 0n ? undefined : next++;
    this.#statsIndex = optional(VIRTIO_BALLOON_F_STATS_VQ);
    this.#reportsIndex = optional(VIRTIO_BALLOON_F_PAGE_REPORTING);
  }

  get #stats(): Virtqueue | undefined {
    return this.#statsIndex === undefined ? undefined : this.#context?.queues[this.#statsIndex];
  }

  notify(queue: Virtqueue): void {
    const { index } = queue;
    if (index === this.#statsIndex) this.#takeStats(queue);
    else if (index === this.#reportsIndex) this.#takeReports(queue);
    else if (index === INFLATE) this.#inflate(queue);
    else if (index === DEFLATE) this.#deflate(queue);
  }

  // Giving back

  #inflate(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const views = this.#viewsOf(this.#readPages(chain.reader));
      this.counters.inflatedBytes += totalBytes(views);
      this.#release(queue, chain, views);
    }
  }

  /** The request's page numbers, in order. A guest that names one twice gives it once. */
  #readPages(reader: ChainReader): Uint32Array {
    const wanted = Math.floor(reader.remaining / 4);
    const count = Math.min(wanted, MAX_REQUEST_PAGES);
    for (let i = 0; i < count; i++) this.#pages[i] = reader.readU32();
    this.counters.badPages += wanted - count;
    return this.#pages.subarray(0, count).sort();
  }

  /** Neighbouring pages as one. */
  #viewsOf(pages: Uint32Array): Uint8Array[] {
    const memory = this.#context?.memory;
    const views: Uint8Array[] = [];
    if (memory === undefined) return views;
    for (let from = 0; from < pages.length; ) {
      const first = pages[from] as number;
      let count = 1;
      let to = from + 1;
      for (; to < pages.length && (pages[to] as number) <= first + count; to++)
        count = (pages[to] as number) - first + 1;
      views.push(...this.#slices(memory, first, count));
      from = to;
    }
    return views;
  }

  #slices(memory: VirtioContext['memory'], first: number, count: number): Uint8Array[] {
    try {
      return memory.slices(first * BALLOON_PAGE_BYTES, count * BALLOON_PAGE_BYTES);
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      // Some may be RAM. A guest whose neighbours are not is not worth finding out.
      this.counters.badPages += count;
      return [];
    }
  }

  #deflate(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.complete(chain, 0);
    queue.signal();
  }

  #takeReports(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const views = chain.writer.take(chain.writer.remaining);
      this.counters.reportedBytes += totalBytes(views);
      this.#release(queue, chain, views);
    }
  }

  /** virtio 1.3, 5.5.6.8.1 MUST NOT (driver): use a page before its report came back. */
  #release(queue: Virtqueue, chain: Chain, views: readonly Uint8Array[]): void {
    const context = this.#context;
    const released = this.#host
      .release(views)
      .catch(() => {
        this.counters.failures++;
      })
      .then(() => {
        this.#releasing.delete(released);
        context?.enter(() => {
          // Nothing was written that the driver may look at.
          queue.complete(chain, 0);
          queue.signal();
        });
      });
    this.#releasing.add(released);
  }

  // Statistics

  #takeStats(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      // A driver has one buffer; of one that has more, the older go back.
      if (this.#statsBuffer !== undefined) queue.complete(this.#statsBuffer, 0);
      this.#statsBuffer = chain;
      if (this.#asked) this.#answer(readStats(chain.reader));
    }
    queue.signal();
    this.#ask();
  }

  #answer(stats: BalloonStats): void {
    this.#asked = false;
    for (const { resolve, callOff } of this.#questions.splice(0)) {
      callOff();
      resolve(stats);
    }
  }

  /** Giving the buffer back is the question. */
  #ask(): void {
    const queue = this.#stats;
    if (queue === undefined || this.#statsBuffer === undefined || this.#questions.length === 0) return;
    queue.complete(this.#statsBuffer, 0);
    this.#statsBuffer = undefined;
    this.#asked = true;
    queue.signal();
  }

  // Life

  reset(): void | Promise<void> {
    this.#context = undefined;
    this.#statsBuffer = undefined;
    this.#asked = false;
    this.#configView.setUint32(CONFIG_ACTUAL, 0, true);
    for (const { reject, callOff } of this.#questions.splice(0)) {
      callOff();
      reject(unanswered('the device was reset'));
    }
    if (this.#releasing.size > 0) return this.#settled();
  }

  async #settled(): Promise<void> {
    await Promise.all(this.#releasing);
  }

  async drain(): Promise<void> {
    await this.#settled();
    // It is kept for ever: as if it had not been taken yet.
    if (this.#statsBuffer !== undefined) this.#stats?.putBack(this.#statsBuffer);
    this.#statsBuffer = undefined;
  }

  save(): DeviceState {
    return { version: 1, targetBytes: this.targetBytes, actualBytes: this.actualBytes };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
    const { targetBytes, actualBytes } = state as { targetBytes?: unknown; actualBytes?: unknown };
    checkState(isPages(targetBytes), 'balloon: the target');
    checkState(isPages(actualBytes), 'balloon: the size');
    this.#configView.setUint32(CONFIG_NUM_PAGES, targetBytes / BALLOON_PAGE_BYTES, true);
    this.#configView.setUint32(CONFIG_ACTUAL, actualBytes / BALLOON_PAGE_BYTES, true);
  }

  async close(): Promise<void> {
    await this.reset();
  }
}

function isPages(bytes: unknown): bytes is number {
  return (
    typeof bytes === 'number' &&
    Number.isInteger(bytes / BALLOON_PAGE_BYTES) &&
    bytes >= 0 &&
    bytes <= 0xffff_ffff * BALLOON_PAGE_BYTES
  );
}

function unanswered(why: string): TsvmError {
  return new TsvmError('TSVM_BALLOON', `balloon: ${why}`, {
    hint: 'the guest needs CONFIG_VIRTIO_BALLOON, and must be running',
  });
}

/**
 * Linux reports free blocks of this order, and only what is free beyond 32 of them (mm/page_reporting.c, watermark). Its own
 * choice, 4 MiB, would leave small guests alone; this is 128 KiB, and all but 4 MiB is reported.
 */
const PAGE_REPORTING_ORDER = 5;

/** Asks for a virtio-balloon, of which a machine has one at most. */
export function balloon(): DeviceRequest<'balloon'> {
  return {
    kind: 'balloon',
    config: {},
    kernelParameter: () => `page_reporting.page_reporting_order=${PAGE_REPORTING_ORDER}`,
    async open(host) {
      const side = host.openBalloon();
      const device = new Balloon(side);
      side.attach(device);
      return device;
    },
  };
}

export const balloonKind: DeviceKind = plainKind(
  'balloon',
  {
    summary: 'memory that the guest does not use goes back to the host',
    guestKconfig: 'CONFIG_VIRTIO_BALLOON',
  },
  balloon,
);
