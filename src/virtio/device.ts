/**
 * The contract between a virtio device and its transport.
 *
 * The transport owns features, status, reset, pause and queues, most of it in transport/core.ts. A device owns what its requests mean. To
 * write one, copy `devices/rng.ts`.
 */
import type { GuestMemory } from '../memory/guest-memory.js';
import type { DurationHistogram } from '../util/histogram.js';
import type { Chain } from './chain.js';

/** Plain, JSON-serialisable, versioned state of a device. */
export interface DeviceState {
  readonly version: number;
  readonly [key: string]: unknown;
}

/** The device-specific configuration space (virtio 1.3, 2.5). Accesses beyond `bytes.length` read 0 and are dropped. */
export interface ConfigSpace {
  /** Current contents, changed in place; the transport serves reads from here. Never replaced. */
  readonly bytes: Uint8Array;
  /** Called for a write by the driver that lies wholly inside; absent means read-only. */
  write?(offset: number, data: Uint8Array): void;
}

/** One split virtqueue as a device sees it. */
export interface Virtqueue {
  readonly index: number;
  /** Entries, as the driver chose. */
  readonly size: number;
  /** False once the driver has reset the device, or broken its ring: nobody waits any more for what was popped. */
  readonly alive: boolean;
  /** The machine is paused: nothing is popped until it goes on, when the device is notified. */
  readonly held: boolean;
  /**
   * The next available chain, validated whole, or undefined when there is none for now, as while the queue is held or dead. A
   * malformed chain is completed with length 0 and makes the device need a reset; the device never sees it.
   *
   * A device that pops until undefined is notified of what comes later; one that stops earlier is not, and must go on
   * popping by itself. One kick allows as many pops as the queue has entries, and as many bytes as `KICK_BYTES` says; a device
   * that would take more is notified again a moment later.
   */
  pop(): Chain | undefined;
  /**
   * Undoes the latest `pop` that was neither completed nor undone: the chain is popped again, and then validated again, the
   * next time. For a device that finds that one chain is not enough.
   */
  putBack(chain: Chain): void;
  /**
   * Returns a chain, with how many bytes were written to its device-writable part. Exactly once for each chain, whatever became of
   * the queue: a dead one only forgets it.
   *
   * `more`: the driver sees it only with the next one that is completed, which must follow at once. For what takes several
   * chains: a driver on another CPU must not find a part of it.
   */
  complete(chain: Chain, written: number, more?: boolean): void;
  /**
   * Asks to be notified of the next buffer that the driver makes available, even while earlier ones have not been popped.
   * Returns the driver's available index (virtio 1.3, 2.7.6), so that a buffer which came in between is noticed.
   */
  watch(): number;
  /** Interrupts the driver if it asked to be told of what was completed since the last signal. */
  signal(): void;
}

/** What a device gets when the driver sets DRIVER_OK. It is void after the next reset. */
export interface VirtioContext {
  readonly memory: GuestMemory;
  /** Queues by index; undefined where the driver did not make one ready. Some drivers start and stop queues later: look here each time. */
  readonly queues: readonly (Virtqueue | undefined)[];
  /** The negotiated feature bits. */
  readonly features: bigint;
  /** Tells the driver that the configuration space changed. */
  configChanged(): void;
  /** The device can no longer work until it is reset: sets DEVICE_NEEDS_RESET, one event, one count. */
  needsReset(reason: string): void;
  /**
   * Makes a call that comes from the host's side (a backend's answer, a timer, a frame) as the driver's calls are made: a GuestError
   * is the device's end until a reset, anything else the machine's, and neither the caller's.
   */
  enter(call: () => void): void;
}

/** What a device did, by name; a name says its unit where it is not a plain count: `readBytes`. They only grow. */
export type DeviceCounters = Readonly<Record<string, number>>;

/** Of a queue whose device does not say: a transfer of 1 MiB, and what belongs to it. A driver could ask for 4 GiB with one page of RAM. */
export const DEFAULT_REQUEST_BYTES: number = (1 << 20) + (64 << 10);

export interface VirtioDevice {
  readonly name: string;
  /** Virtio device ID (virtio 1.3, 5). */
  readonly deviceId: number;
  /** Feature bits that the device offers beside those of the transport (VERSION_1, INDIRECT_DESC, EVENT_IDX). */
  readonly features: bigint;
  /** The greatest size of each queue; its length is the number of queues. Powers of two. */
  readonly queueSizes: readonly number[];
  /**
   * The greatest request of each queue, in bytes of both parts together: what a driver may have reason to ask for in one chain. A
   * longer chain is malformed, unless `dropRequest` is there. Default: {@link DEFAULT_REQUEST_BYTES}.
   */
  readonly maxRequestBytes?: readonly number[];
  /** For a device that may lose requests: a longer chain was completed unread, with length 0. */
  dropRequest?(queueIndex: number): void;
  readonly config?: ConfigSpace;
  /** Changed in place, and read by whoever asks. */
  readonly counters?: DeviceCounters;
  /** How long what took, by name. */
  readonly durations?: Readonly<Record<string, DurationHistogram>>;
  /** The driver is ready. Nothing may be popped before `notify`. */
  activate(context: VirtioContext): void;
  /** The driver made buffers available on this queue (or might have). */
  notify(queue: Virtqueue): void;
  /** Forget everything of the driver. A promise, if I/O must be waited for: afterwards nothing is written to guest memory. */
  reset(): void | Promise<void>;
  /** Waits until no request is in flight, so that `save` is whole. The queues are held already, and give no new ones. */
  drain?(): Promise<void>;
  /** The queues give requests again. The device is notified of each afterwards. */
  resume?(): void;
  save(): DeviceState;
  restore(state: DeviceState): void;
  /** Releases what the device holds of the host (files, sockets). */
  close?(): void | Promise<void>;
}
