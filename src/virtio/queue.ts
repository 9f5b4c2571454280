/**
 * The device's side of a split virtqueue, and the only file that knows memory ordering.
 *
 * The driver is another thread that may write anything, anywhere, at any time. So every field is fetched once, checked,
 * and used from the local copy; the two ring indices go through Atomics, whose loads and stores are sequentially
 * consistent: what was written before an index is visible before it, and a store of ours is visible before our next load.
 *
 * @spec virtio-1.3 2.7    Split virtqueues          #yes
 * @spec virtio-1.3 2.7.5.3 Indirect descriptors     #yes
 * @spec virtio-1.3 2.7.7  Used buffer suppression   #yes
 * @spec virtio-1.3 2.7.10 Available buffer suppression #partial  by index only; the flag is left at "notify me"
 * @spec virtio-1.3 2.8    Packed virtqueues         #no  split rings are enough for every guest that boots here
 * @spec virtio-1.3 2.7.9  In-order use              #no  not offered
 */
import assert from 'node:assert';
import { GuestError } from '../errors.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import { CHAIN_STATE, type Chain, PooledChain } from './chain.js';
import { DEFAULT_REQUEST_BYTES, type Virtqueue } from './device.js';
import { DESC_BYTES, type QueueLayout, type QueuePosition, START_POSITION } from './queue-layout.js';

const VIRTQ_DESC_F_NEXT = 1;
const VIRTQ_DESC_F_WRITE = 2;
const VIRTQ_DESC_F_INDIRECT = 4;
const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** virtio 1.3, 2.7.5.2 MUST NOT (driver): add a chain longer than 2^32 bytes in total. */
const MAX_CHAIN_BYTES = 0x1_0000_0000;
/**
 * What the chains of one kick may add up to before others get their turn: some milliseconds, if all of it is copied. The chain with
 * which it is reached is still taken, so that none is too long for it.
 */
export const KICK_BYTES: number = 4 << 20;
const MAX_HIGH_DWORD = 0x1f_ffff;

export interface QueueCounters {
  /** Notifications by the driver. */
  kicks: number;
  /** Interrupts to the driver. */
  interrupts: number;
  /** Chains popped. */
  chains: number;
  /** Malformed chains and rings. */
  errors: number;
}

export function newQueueCounters(): QueueCounters {
  return { kicks: 0, interrupts: 0, chains: 0, errors: 0 };
}

/** What a queue tells its transport. */
export interface QueueEvents {
  /** Interrupt the driver: buffers were used. */
  interrupt(): void;
  /** The ring or a chain is malformed. The queue is dead until reset. */
  broken(reason: string): void;
  /** A chain was longer than a request may be, and is completed. Absent: it is malformed. */
  dropped?(): void;
  /** The device popped as much as one kick allows, and more may wait: notify it again later. */
  yielded(): void;
}

export interface SplitQueueOptions {
  readonly index: number;
  readonly memory: GuestMemory;
  /** One that `refuseLayout` does not refuse. */
  readonly layout: QueueLayout;
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  /** The longest chain, in bytes. */
  readonly maxRequestBytes?: number;
  readonly events: QueueEvents;
  readonly counters: QueueCounters;
  readonly position?: QueuePosition;
}

export class SplitQueue implements Virtqueue {
  readonly index: number;
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #maxRequestBytes: number;
  readonly #events: QueueEvents;
  readonly #counters: QueueCounters;
  /** The descriptor table. */
  readonly #desc: DataView;
  /** [0] flags, [1] idx, [2 + i] ring, [2 + size] used_event. */
  readonly #avail: Uint16Array;
  /** [0] flags, [1] idx, [2 + 4i ...] ring, [2 + 4 size] avail_event. */
  readonly #used: Uint16Array;
  /** The used ring's elements: [1 + 2i] id, [2 + 2i] length. */
  readonly #usedRing: Uint32Array;
  readonly #availEventAt: number;
  readonly #usedEventAt: number;
  /** 1 for each head that the device holds. */
  readonly #inFlight: Uint8Array;
  readonly #free: PooledChain[] = [];
  #inFlightCount = 0;
  #nextAvail: number;
  /** What the driver's index was when last looked at. */
  #seenAvail: number;
  #nextUsed: number;
  #signalledUsed: number;
  #completedSinceSignal = 0;
  /** Pops left until the next kick. */
  #budget: number;
  /** And bytes. */
  #byteBudget = KICK_BYTES;
  #alive = true;
  #held = false;

  constructor(options: SplitQueueOptions) {
    const { memory, layout, position = START_POSITION } = options;
    this.index = options.index;
    this.size = layout.size;
    this.#memory = memory;
    this.#indirect = options.indirect;
    this.#eventIdx = options.eventIdx;
    this.#maxRequestBytes = options.maxRequestBytes ?? DEFAULT_REQUEST_BYTES;
    this.#events = options.events;
    this.#counters = options.counters;
    const desc = memory.slice(layout.descAddr, DESC_BYTES * layout.size);
    const avail = memory.slice(layout.availAddr, 6 + 2 * layout.size);
    const used = memory.slice(layout.usedAddr, 6 + 8 * layout.size);
    this.#desc = new DataView(desc.buffer, desc.byteOffset, desc.length);
    this.#avail = new Uint16Array(avail.buffer, avail.byteOffset, avail.length / 2);
    this.#used = new Uint16Array(used.buffer, used.byteOffset, used.length / 2);
    this.#usedRing = new Uint32Array(used.buffer, used.byteOffset, 1 + 2 * layout.size);
    this.#usedEventAt = 2 + layout.size;
    this.#availEventAt = 2 + 4 * layout.size;
    this.#inFlight = new Uint8Array(layout.size);
    this.#nextAvail = position.nextAvail;
    this.#seenAvail = this.#nextAvail;
    this.#nextUsed = position.nextUsed;
    this.#signalledUsed = position.signalledUsed;
    this.#budget = layout.size;
  }

  /** Chains that the device holds. */
  get inFlight(): number {
    return this.#inFlightCount;
  }

  get position(): QueuePosition {
    return { nextAvail: this.#nextAvail, nextUsed: this.#nextUsed, signalledUsed: this.#signalledUsed };
  }

  /**
   * Allows another round of pops. A driver can make buffers available as fast as they are used, on its own CPU; so one
   * kick is worth at most one pop for every entry of the ring and KICK_BYTES, and other machines get their turn in between.
   */
  refill(): void {
    this.#budget = this.size;
    this.#byteBudget = KICK_BYTES;
  }

  get alive(): boolean {
    return this.#alive;
  }

  get held(): boolean {
    return this.#held;
  }

  /** Gives nothing until `release`, and leaves the rings alone but for what the device completes. */
  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
  }

  /** Ends the queue: nothing is popped any more, and nothing more is written to the rings. */
  kill(): void {
    this.#alive = false;
  }

  pop(): Chain | undefined {
    let chain = this.#next();
    while (chain === 'dropped') chain = this.#next();
    return chain;
  }

  #next(): Chain | 'dropped' | undefined {
    if (!this.#alive || this.#held) return undefined;
    if (this.#nextAvail === this.#seenAvail && !this.#lookForMore()) return undefined;
    if (this.#budget === 0 || this.#byteBudget <= 0) {
      this.#events.yielded();
      return undefined;
    }
    this.#budget--;
    const head = this.#avail[2 + (this.#nextAvail & (this.size - 1))] as number;
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    if (head >= this.size) {
      this.#break(`head ${head} is beyond a queue of ${this.size}`);
      return undefined;
    }
    // Taking a head twice would hand the same buffers to two requests, and the driver one completion too many.
    if (this.#inFlight[head] !== 0) {
      this.#break(`head ${head} is already in flight`);
      return undefined;
    }
    const chain = this.#free.pop() ?? new PooledChain();
    const problem = this.#walk(chain, head);
    if (problem !== undefined) {
      this.#free.push(chain);
      this.#pushUsed(head, 0);
      this.#completedSinceSignal++;
      this.#break(problem);
      return undefined;
    }
    if (chain.byteLength > this.#maxRequestBytes) {
      this.#free.push(chain);
      this.#pushUsed(head, 0);
      this.#completedSinceSignal++;
      this.#events.dropped?.();
      return 'dropped';
    }
    chain.state = CHAIN_STATE.IN_FLIGHT;
    this.#inFlight[head] = 1;
    this.#inFlightCount++;
    this.#counters.chains++;
    this.#byteBudget -= chain.byteLength;
    return chain;
  }

  putBack(chain: Chain): void {
    this.#release(chain as PooledChain);
    this.#nextAvail = (this.#nextAvail - 1) & 0xffff;
    this.#budget++;
    this.#byteBudget += (chain as PooledChain).byteLength;
    this.#counters.chains--;
  }

  complete(chain: Chain, written: number, more = false): void {
    const pooled = chain as PooledChain;
    assert(
      pooled.state === CHAIN_STATE.IN_FLIGHT,
      `queue ${this.index}: chain ${chain.head} completed twice`,
    );
    assert(written >= 0 && written <= chain.writer.length, `queue ${this.index}: ${written} bytes written`);
    this.#release(pooled);
    // After a reset the rings are the driver's to reuse (virtio 1.3, 2.4.1).
    if (!this.#alive) return;
    this.#pushUsed(chain.head, written, more);
    this.#completedSinceSignal++;
  }

  #release(chain: PooledChain): void {
    assert(
      chain.state === CHAIN_STATE.IN_FLIGHT,
      `queue ${this.index}: chain ${chain.head} is not in flight`,
    );
    chain.state = CHAIN_STATE.FREE;
    this.#inFlight[chain.head] = 0;
    this.#inFlightCount--;
    this.#free.push(chain);
  }

  signal(): void {
    if (this.#completedSinceSignal === 0 || !this.#alive) return;
    if (!this.#wantsInterrupt()) return;
    this.#counters.interrupts++;
    this.#events.interrupt();
  }

  watch(): number {
    if (!this.#alive) return this.#nextAvail;
    const seen = Atomics.load(this.#avail, 1);
    if (!this.#eventIdx || this.#held) return seen;
    Atomics.store(this.#used, this.#availEventAt, seen);
    return Atomics.load(this.#avail, 1);
  }

  /** True if the driver's index moved on. If not, asks the driver to notify of the next buffer, and looks once more. */
  #lookForMore(): boolean {
    for (let armed = !this.#eventIdx; ; armed = true) {
      const seen = Atomics.load(this.#avail, 1);
      const waiting = (seen - this.#nextAvail) & 0xffff;
      if (waiting > this.size) {
        this.#break(`available index is ${waiting} entries ahead in a queue of ${this.size}`);
        return false;
      }
      if (waiting !== 0) {
        this.#seenAvail = seen;
        return true;
      }
      if (armed) return false;
      // virtio 1.3, 2.7.10: the driver notifies when it makes the buffer of index avail_event available. It may have
      // done so since the load above, so the index is loaded again after the store. A store that changes nothing would still
      // cost a forked machine the copy of a page.
      if (Atomics.load(this.#used, this.#availEventAt) === this.#nextAvail) return false;
      Atomics.store(this.#used, this.#availEventAt, this.#nextAvail);
    }
  }

  /** Fills in `chain` from the descriptors at `head`; returns why it cannot. */
  #walk(chain: PooledChain, head: number): string | undefined {
    chain.begin(head);
    const { segments } = chain;
    let next = head;
    let descriptors = 0;
    let readableSegments = 0;
    let readableBytes = 0;
    let writableBytes = 0;
    /** 0 in the queue's own table, else the address of the indirect table. */
    let table = 0;
    let tableSize = this.size;
    let inTable = false;
    let writable = false;
    try {
      for (;;) {
        // Longer than the queue is a loop, or the driver's mistake (virtio 1.3, 2.7.5.3.1 MUST NOT).
        if (++descriptors > this.size) return `chain at ${head} is longer than the queue`;
        let low: number;
        let high: number;
        let length: number;
        let tail: number;
        if (inTable) {
          const at = table + DESC_BYTES * next;
          low = this.#memory.readU32(at);
          high = this.#memory.readU32(at + 4);
          length = this.#memory.readU32(at + 8);
          tail = this.#memory.readU32(at + 12);
        } else {
          const at = DESC_BYTES * next;
          low = this.#desc.getUint32(at, true);
          high = this.#desc.getUint32(at + 4, true);
          length = this.#desc.getUint32(at + 8, true);
          tail = this.#desc.getUint32(at + 12, true);
        }
        const flags = tail & 0xffff;
        if (high > MAX_HIGH_DWORD) return `descriptor ${next} has an address beyond 2^53`;
        const addr = high * 0x1_0000_0000 + low;
        if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
          if (!this.#indirect) return `descriptor ${next} is indirect, which was not negotiated`;
          if (inTable) return `descriptor ${next} is indirect inside an indirect table`;
          if ((flags & VIRTQ_DESC_F_NEXT) !== 0) return `descriptor ${next} is indirect and has a next`;
          if (length === 0 || length % DESC_BYTES !== 0) return `indirect table of ${length} bytes`;
          if (length / DESC_BYTES > this.size) return `indirect table of ${length / DESC_BYTES} descriptors`;
          if (!this.#memory.contains(addr, length))
            return `indirect table at 0x${addr.toString(16)} is not in RAM`;
          inTable = true;
          table = addr;
          tableSize = length / DESC_BYTES;
          next = 0;
          descriptors--; // 2.7.5.3.2: it only refers to the table, and its write flag is ignored
          continue;
        }
        const isWritable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
        segments.append(this.#memory, addr, length, isWritable);
        if (isWritable) {
          writable = true;
          writableBytes += length;
        } else {
          // virtio 1.3, 2.7.4.2 MUST (driver): device-writable elements come after all device-readable ones.
          if (writable) return `descriptor ${next} is readable after a writable one`;
          readableBytes += length;
          readableSegments = segments.count;
        }
        if (readableBytes + writableBytes > MAX_CHAIN_BYTES)
          return `chain at ${head} is longer than 2^32 bytes`;
        if ((flags & VIRTQ_DESC_F_NEXT) === 0) break;
        next = tail >>> 16;
        if (next >= tableSize) return `descriptor index ${next} is beyond ${tableSize}`;
      }
    } catch (error) {
      if (error instanceof GuestError) return error.message;
      throw error;
    }
    const length = readableBytes + writableBytes;
    if (length > this.#maxRequestBytes && this.#events.dropped === undefined)
      return `chain at ${head} has ${length} bytes, more than the ${this.#maxRequestBytes} of a request`;
    chain.finish(readableSegments, readableBytes, writableBytes);
    return undefined;
  }

  /** virtio 1.3, 2.7.8.2 MUST: the element is written before the index that makes it visible. */
  #pushUsed(head: number, written: number, more = false): void {
    const slot = this.#nextUsed & (this.size - 1);
    this.#usedRing[1 + 2 * slot] = head;
    this.#usedRing[2 + 2 * slot] = written;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    if (!more) Atomics.store(this.#used, 1, this.#nextUsed);
  }

  /** Whether the driver asked to be told of what was completed since the last signal. */
  #wantsInterrupt(): boolean {
    const before = this.#signalledUsed;
    const completed = this.#completedSinceSignal;
    this.#signalledUsed = this.#nextUsed;
    this.#completedSinceSignal = 0;
    if (!this.#eventIdx) {
      // virtio 1.3, 2.7.7.2 MUST: ignore used_event unless EVENT_IDX was negotiated, and then heed the flag.
      return (Atomics.load(this.#avail, 0) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const usedEvent = Atomics.load(this.#avail, this.#usedEventAt);
    return (
      completed > 0xffff || ((this.#nextUsed - usedEvent - 1) & 0xffff) < ((this.#nextUsed - before) & 0xffff)
    );
  }

  #break(reason: string): void {
    this.#counters.errors++;
    this.signal();
    this.#alive = false;
    this.#events.broken(`queue ${this.index}: ${reason}`);
  }
}
