/**
 * Tells the driver that all connections are gone, and waits until it has taken that in: it ends whatever connection it has at
 * that moment, so one that is asked for in between would end with them.
 *
 * @spec virtio-1.3 5.10.6.7  Device events  #yes  VIRTIO_VSOCK_EVENT_TRANSPORT_RESET
 */
import type { Clock } from '../../util/clock.js';
import type { Virtqueue } from '../../virtio/device.js';

const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;
const EVENT_BYTES = 4;
/** For a driver that keeps no buffers in its event queue, or does not give them back. Linux does within milliseconds. */
export const PATIENCE_MS = 2000;

export interface TransportResetEvents {
  /** The driver knows, or had time enough to. */
  over(): void;
  /** An event buffer had no room for an event. */
  shortBuffer(): void;
}

export class TransportReset {
  readonly #clock: Clock;
  readonly #events: TransportResetEvents;
  /** Connections must wait. */
  #underway = false;
  /** To be told to the driver, as soon as there is a buffer. */
  #eventPending = false;
  /** The event queue's available index when it was told; it moves on when the driver gives the buffer back. */
  #toldAt: number | undefined;
  #callOff: (() => void) | undefined;

  constructor(clock: Clock, events: TransportResetEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  get underway(): boolean {
    return this.#underway;
  }

  /** `send` is to follow, now or later. */
  begin(): void {
    this.cancel();
    this.#underway = true;
    this.#eventPending = true;
  }

  cancel(): void {
    this.#eventPending = false;
    this.#endWait();
  }

  #endWait(): void {
    this.#underway = false;
    this.#toldAt = undefined;
    this.#callOff?.();
    this.#callOff = undefined;
  }

  /** To be called when the driver may have made buffers available in its event queue. */
  send(queue: Virtqueue): void {
    if (this.#underway) this.#callOff ??= this.#clock.after(PATIENCE_MS, () => this.#finish());
    if (this.#toldAt !== undefined && queue.watch() !== this.#toldAt) this.#finish();
    while (this.#eventPending) {
      const availableAt = queue.watch();
      const chain = queue.pop();
      if (chain === undefined) break;
      if (chain.writer.length >= EVENT_BYTES) {
        chain.writer.writeU32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
        this.#eventPending = false;
        if (this.#underway) this.#toldAt = availableAt;
      } else {
        this.#events.shortBuffer();
      }
      queue.complete(chain, chain.writer.written);
    }
    queue.signal();
  }

  /** If patience was over before there was a buffer, the driver is told all the same once there is one. */
  #finish(): void {
    this.#endWait();
    this.#events.over();
  }
}
