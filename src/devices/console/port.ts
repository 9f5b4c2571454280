/** One port of a virtio-console: bytes each way, with their bounds, between its two queues and the host. */
import { ByteQueue } from '../../util/byte-queue.js';
import { checkState } from '../../util/state.js';
import type { ChainReader } from '../../virtio/chain.js';
import type { VirtioContext, Virtqueue } from '../../virtio/device.js';
import type { PortControl } from '../backends/console.js';

/** Typed, pasted or piped input that waits for the guest's buffers; what does not fit stays with the sender. */
export const INPUT_QUEUE_BYTES = 16 * 1024;
/** Output handed to the host in one call. Guest memory is copied out first, since the guest may change it meanwhile. */
const OUTPUT_BATCH_BYTES = 16 * 1024;

/** Events of a port, for the host. A console's output cannot be refused, and nobody asks whether it is open. */
export interface PortEvents {
  onOutput?(bytes: Uint8Array): boolean | undefined;
  onDrain?(): void;
  onOpen?(open: boolean): void;
  /** The guest has to be told that the host's side opened, or closed. */
  onHostOpen?(): void;
}

export interface PortLimits {
  /** Of one transmit buffer; the rest is dropped and counted. A hostile driver states up to 4 GiB. */
  readonly transmitBytes: number;
}

export class Port implements PortControl {
  /** Output that was beyond `transmitBytes`. */
  droppedBytes = 0;
  readonly #events: PortEvents;
  readonly #limits: PortLimits;
  readonly #pending = new ByteQueue(INPUT_QUEUE_BYTES);
  /** Made when the guest first writes: most ports of most machines never carry anything. */
  #batch = new Uint8Array(0);
  #context: VirtioContext | undefined;
  #receiveIndex = 0;
  #refusedInput = false;
  #refusedOutput = false;
  /** The host may resume or close from within `onOutput`; what is being taken then goes on in order. */
  #transmitting = false;
  #closed = false;
  #hostPresent = true;
  #guestOpen = false;

  constructor(events: PortEvents, limits: PortLimits) {
    this.#events = events;
    this.#limits = limits;
  }

  /** The host's side is open as far as the guest can tell: input that came before the end is still to be read. */
  get hostOpen(): boolean {
    return (this.#hostPresent && !this.#closed) || this.#pending.length > 0;
  }

  get guestOpen(): boolean {
    return this.#guestOpen;
  }

  /** Takes up the driver, with the queue of index `receive` and the next. */
  attach(context: VirtioContext, receive: number): void {
    this.#context = context;
    this.#receiveIndex = receive;
  }

  /** The driver is gone. What was typed and not yet read stays for the next one. */
  detach(): void {
    this.#context = undefined;
    this.setGuestOpen(false);
  }

  /** Drivers drop what comes before they opened a port, so nothing is given to them until then. */
  setGuestOpen(open: boolean): void {
    if (open === this.#guestOpen) return;
    this.#guestOpen = open;
    this.#events.onOpen?.(open);
    if (open) this.receive();
  }

  input(bytes: Uint8Array): number {
    if (this.#closed) return bytes.length;
    let taken = 0;
    for (let more = 1; more > 0 && taken < bytes.length; taken += more) {
      more = this.#pending.push(bytes.subarray(taken));
      this.receive();
    }
    // Only now, so that `onDrain` never comes from within.
    this.#refusedInput ||= taken < bytes.length;
    return taken;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#refusedOutput = false;
    if (this.#pending.length === 0) this.#events.onHostOpen?.();
    this.transmit();
  }

  setHostOpen(open: boolean): void {
    if (open === this.#hostPresent) return;
    this.#hostPresent = open;
    this.#refusedOutput = !open;
    if (open || this.#pending.length === 0) this.#events.onHostOpen?.();
    this.transmit();
  }

  resumeOutput(): void {
    this.#refusedOutput = false;
    this.transmit();
  }

  /** Takes what the guest wrote, as long as the host does not refuse. */
  transmit(): void {
    const context = this.#context;
    context?.enter(() => this.#transmit(context.queues[this.#receiveIndex + 1]));
  }

  #transmit(queue: Virtqueue | undefined): void {
    if (queue === undefined || this.#transmitting) return;
    this.#transmitting = true;
    let used = 0;
    try {
      for (;;) {
        const chain = this.#refusedOutput ? undefined : queue.pop();
        if (chain !== undefined) {
          used = this.#take(chain.reader, used);
          queue.complete(chain, 0);
        } else if (used > 0) {
          this.#output(used);
          used = 0; // and look again: the host may have resumed from within
        } else {
          break;
        }
      }
    } finally {
      this.#transmitting = false;
    }
    queue.signal();
  }

  /** Adds one buffer to a batch of `used` bytes; full ones go out. Returns how full the last one is. */
  #take(reader: ChainReader, used: number): number {
    if (this.#batch.length === 0) this.#batch = new Uint8Array(OUTPUT_BATCH_BYTES);
    const batch = this.#batch;
    const dropped = Math.max(reader.length - this.#limits.transmitBytes, 0);
    this.droppedBytes += dropped;
    let at = used;
    while (reader.remaining > dropped) {
      at += reader.read(batch.subarray(at, at + reader.remaining - dropped));
      if (at === batch.length) {
        this.#output(at);
        at = 0;
      }
    }
    return at;
  }

  #output(used: number): void {
    if (this.#closed) return;
    this.#refusedOutput = this.#events.onOutput?.(this.#batch.subarray(0, used)) === false;
  }

  /** Moves input into the guest's buffers, as far as there are any. Without input, no buffer is taken. */
  receive(): void {
    const context = this.#context;
    context?.enter(() => this.#receive(context.queues[this.#receiveIndex]));
  }

  #receive(queue: Virtqueue | undefined): void {
    if (queue === undefined || !this.#guestOpen || this.#pending.length === 0) return;
    while (this.#pending.length > 0) {
      const chain = queue.pop();
      if (chain === undefined) break;
      for (const bytes of chain.writer.take(Math.min(chain.writer.length, this.#pending.length))) {
        this.#pending.shiftInto(bytes);
      }
      queue.complete(chain, chain.writer.written);
    }
    queue.signal();
    if (!this.hostOpen) this.#events.onHostOpen?.();
    if (this.#refusedInput && this.#pending.length <= INPUT_QUEUE_BYTES / 2) {
      this.#refusedInput = false;
      this.#events.onDrain?.();
    }
  }

  save(): PortState {
    const { hostOpen } = this;
    return { pending: this.#pending.toArray(), closed: this.#closed, hostOpen, guestOpen: this.#guestOpen };
  }

  /** Tells the host if the guest had the port open. True: the guest is to be told that the host's side is not what it was. */
  restore(state: unknown, what: string): boolean {
    checkState(typeof state === 'object' && state !== null, what);
    const { pending, closed, hostOpen, guestOpen } = state as { readonly [Key in keyof PortState]: unknown };
    checkState(Array.isArray(pending) && pending.length <= INPUT_QUEUE_BYTES, `${what}: pending input`);
    checkState(
      [closed, hostOpen, guestOpen].every((value) => typeof value === 'boolean'),
      `${what}: open or closed`,
    );
    this.#pending.clear();
    this.#pending.push(Uint8Array.from(pending as number[]));
    this.#closed = closed === true;
    this.setGuestOpen(guestOpen === true);
    return hostOpen !== this.hostOpen;
  }
}

/** Saved state of a port. */
export interface PortState {
  readonly pending: readonly number[];
  readonly closed: boolean;
  readonly hostOpen: boolean;
  readonly guestOpen: boolean;
}
