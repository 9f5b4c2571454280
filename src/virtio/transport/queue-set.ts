/** The queues of one device: which are ready, which of them work now, and where each goes on. */
import assert from 'node:assert';
import type { GuestMemory } from '../../memory/guest-memory.js';
import { DEFAULT_REQUEST_BYTES, type VirtioDevice } from '../device.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from '../features.js';
import { newQueueCounters, type QueueCounters, SplitQueue } from '../queue.js';
import {
  MAX_QUEUE_SIZE,
  type QueueLayout,
  type QueuePosition,
  refuseLayout,
  refusePosition,
  START_POSITION,
} from '../queue-layout.js';

export interface QueueSetEvents {
  /** Interrupt the driver: buffers of this queue were used. */
  interrupt(index: number): void;
  /** A ring or a chain is malformed. */
  broken(reason: string): void;
  /** The device popped as much of this queue as one kick allows. */
  yielded(index: number): void;
}

/** Saved state of a queue. Of one that is not ready, the layout is what the driver has told the transport so far. */
export interface SavedQueue extends QueueLayout {
  readonly ready: boolean;
  /** Position that the queue is at, or starts from if it does not work yet or any more; null of one that is not ready. */
  readonly position: QueuePosition | null;
}

/** A queue that the driver made ready. */
interface ReadyQueue {
  readonly layout: QueueLayout;
  readonly position: QueuePosition;
}

export class QueueSet {
  readonly counters: readonly QueueCounters[];
  readonly #device: VirtioDevice;
  readonly #memory: GuestMemory;
  readonly #events: QueueSetEvents;
  readonly #ready: (ReadyQueue | undefined)[];
  #live: (SplitQueue | undefined)[] = [];
  /** Negotiated features, while the device works. */
  #features: bigint | undefined;
  #held = false;

  constructor(device: VirtioDevice, memory: GuestMemory, events: QueueSetEvents) {
    for (const size of device.queueSizes) {
      assert(
        size > 0 && size <= MAX_QUEUE_SIZE && (size & (size - 1)) === 0,
        `${device.name}: queue size ${size}`,
      );
    }
    this.#device = device;
    this.#memory = memory;
    this.#events = events;
    this.#ready = device.queueSizes.map(() => undefined);
    this.counters = device.queueSizes.map(newQueueCounters);
  }

  /** Queues that work, by index: the same array from `open` to `kill`, so that whoever has it sees each start and stop. */
  get live(): readonly (SplitQueue | undefined)[] {
    return this.#live;
  }

  get held(): boolean {
    return this.#held;
  }

  isReady(index: number): boolean {
    return this.#ready[index] !== undefined;
  }

  /** Makes a queue ready that is not; it works at once if the others do. Returns why it cannot, whatever a driver or a snapshot says. */
  start(index: number, layout: QueueLayout, position: QueuePosition = START_POSITION): string | undefined {
    assert(!this.isReady(index), `${this.#device.name}: queue ${index} is started twice`);
    const problem =
      refuseLayout(this.#memory, layout, this.#device.queueSizes[index] ?? 0) ?? refusePosition(position);
    if (problem !== undefined) return `queue ${index}: ${problem}`;
    const { size, descAddr, availAddr, usedAddr } = layout;
    const ready = { layout: { size, descAddr, availAddr, usedAddr }, position };
    this.#ready[index] = ready;
    if (this.#features !== undefined) this.#live[index] = this.#make(index, ready, this.#features);
    return undefined;
  }

  /** Ends a queue that is ready; returns where it stood. Of one that works nothing may be in flight. */
  stop(index: number): QueuePosition {
    const queue = this.#live[index];
    const position = queue?.position ?? this.#ready[index]?.position;
    assert(position !== undefined, `${this.#device.name}: queue ${index} is stopped twice`);
    this.#assertIdle(queue);
    queue?.kill();
    this.#ready[index] = undefined;
    if (queue !== undefined) this.#live[index] = undefined;
    return position;
  }

  /** Sets every queue that is ready to work. */
  open(features: bigint): void {
    this.#features = features;
    this.#live = this.#ready.map((ready, index) => ready && this.#make(index, ready, features));
  }

  #make(index: number, { layout, position }: ReadyQueue, features: bigint): SplitQueue {
    const device = this.#device;
    const queue = new SplitQueue({
      index,
      memory: this.#memory,
      layout,
      position,
      indirect: (features & VIRTIO_F_INDIRECT_DESC) !== 0n,
      eventIdx: (features & VIRTIO_F_EVENT_IDX) !== 0n,
      maxRequestBytes: device.maxRequestBytes?.[index] ?? DEFAULT_REQUEST_BYTES,
      counters: this.counters[index] as QueueCounters,
      events: {
        interrupt: () => this.#events.interrupt(index),
        broken: (reason) => this.#events.broken(reason),
        yielded: () => this.#events.yielded(index),
        ...(device.dropRequest === undefined ? {} : { dropped: () => device.dropRequest?.(index) }),
      },
    });
    if (this.#held) queue.hold();
    return queue;
  }

  /** No device touches the rings from here on. */
  kill(): void {
    for (const queue of this.#live) queue?.kill();
    this.#live = [];
    this.#features = undefined;
  }

  /** Kills all, and forgets what the driver made ready. */
  clear(): void {
    this.kill();
    this.#ready.fill(undefined);
  }

  /** No queue gives anything until `release`, one that is started meanwhile neither. */
  hold(): void {
    this.#held = true;
    for (const queue of this.#live) queue?.hold();
  }

  release(): void {
    this.#held = false;
    for (const queue of this.#live) queue?.release();
  }

  save(): SavedQueue[] {
    return this.#ready.map((ready, index) => {
      const queue = this.#live[index];
      this.#assertIdle(queue);
      const layout = ready?.layout ?? unsetLayout(this.#device.queueSizes[index] as number);
      return { ...layout, ready: ready !== undefined, position: (queue ?? ready)?.position ?? null };
    });
  }

  #assertIdle(queue: SplitQueue | undefined): void {
    assert((queue?.inFlight ?? 0) === 0, `${this.#device.name}: requests are in flight`);
  }
}

/** Layout of a queue of which the driver has said nothing. */
export function unsetLayout(size: number): QueueLayout {
  return { size, descAddr: 0, availAddr: 0, usedAddr: 0 };
}
