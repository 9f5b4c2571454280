/**
 * Ways in which the mock driver reaches a device: through a transport's registers, or straight through the core's calls, as a transport
 * of tomorrow would make them. What a device does must not depend on which.
 */
import { Bus } from '../../src/bus/bus.js';
import { VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES } from '../../src/memory/layout.js';
import type { QueueLayout } from '../../src/virtio/queue-layout.js';
import {
  type TransportFace,
  VirtioCore,
  type VirtioCoreOptions,
  type VirtioCoreState,
} from '../../src/virtio/transport/core.js';
import { CONFIG_OFFSET, REG, VirtioMmio } from '../../src/virtio/transport/mmio.js';

/** Bits of `pendingInterrupts`, those of InterruptStatus. */
export const USED_BUFFER = 1;
export const CONFIG_CHANGED = 2;

/** What a driver can say and see, whatever the transport. */
export interface DriverFace {
  readonly core: VirtioCore;
  readonly status: number;
  readonly generation: number;
  /** Interrupts by kind that the driver has not taken yet. */
  readonly pendingInterrupts: number;
  writeStatus(value: number): void | Promise<void>;
  offeredWord(index: number): number;
  acceptWord(index: number, word: number): void;
  /** The greatest size of a queue; 0 if there is none. */
  maxQueueSize(index: number): number;
  startQueue(index: number, layout: QueueLayout): void;
  notify(index: number): void;
  readConfig(offset: number, width: number): Uint8Array;
  writeConfig(offset: number, data: Uint8Array): void;
  takeInterrupts(): number;
  save(): VirtioCoreState;
  restore(state: VirtioCoreState): void;
}

/** Makes a transport; `onInterrupt` is called for each edge. */
type MakeTransport = (options: VirtioCoreOptions, onInterrupt: () => void) => DriverFace;

/** The core with no transport: an interrupt for each queue is as good as one for all. */
export class CoreTransport implements DriverFace, TransportFace {
  readonly core: VirtioCore;
  status = 0;
  generation = 0;
  pendingInterrupts = 0;
  /** Queues whose interrupts came, in order. */
  readonly interruptedQueues: number[] = [];
  readonly #onInterrupt: () => void;

  constructor(options: VirtioCoreOptions, onInterrupt: () => void = () => {}) {
    this.core = new VirtioCore(this, options);
    this.#onInterrupt = onInterrupt;
  }

  showStatus(status: number): void {
    if (status === 0) this.pendingInterrupts = 0;
    this.status = status;
  }

  showGeneration(generation: number): void {
    this.generation = generation;
  }

  interruptQueue(index: number): void {
    this.interruptedQueues.push(index);
    this.#interrupt(USED_BUFFER);
  }

  interruptConfig(): void {
    this.#interrupt(CONFIG_CHANGED);
  }

  #interrupt(bit: number): void {
    this.pendingInterrupts |= bit;
    this.#onInterrupt();
  }

  writeStatus(value: number): void | Promise<void> {
    return this.core.writeStatus(value);
  }

  offeredWord(index: number): number {
    return this.core.offeredWord(index);
  }

  acceptWord(index: number, word: number): void {
    this.core.setFeatureWord(index, word);
  }

  maxQueueSize(index: number): number {
    return this.core.device.queueSizes[index] ?? 0;
  }

  startQueue(index: number, layout: QueueLayout): void {
    if (this.core.queuesLocked || this.core.isReady(index) || this.maxQueueSize(index) === 0) return;
    const problem = this.core.startQueue(index, layout);
    if (problem !== undefined) this.core.needsReset(problem);
  }

  notify(index: number): void {
    this.core.notify(index);
  }

  readConfig(offset: number, width: number): Uint8Array {
    const data = new Uint8Array(width);
    this.core.readConfig(offset, data);
    return data;
  }

  writeConfig(offset: number, data: Uint8Array): void {
    this.core.writeConfig(offset, data);
  }

  takeInterrupts(): number {
    const pending = this.pendingInterrupts;
    this.pendingInterrupts = 0;
    return pending;
  }

  save(): VirtioCoreState {
    return this.core.save();
  }

  restore(state: VirtioCoreState): void {
    this.core.restore(state);
  }
}

/** A {@link VirtioMmio} on a bus: all by its registers. */
export class MmioTransport implements DriverFace {
  readonly bus = new Bus();
  readonly slot: VirtioMmio;

  constructor(options: VirtioCoreOptions, onInterrupt: () => void = () => {}) {
    this.slot = new VirtioMmio({ ...options, irq: { trigger: onInterrupt } });
    this.bus.attach(VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES, this.slot);
  }

  readBytes(offset: number, width: number): Uint8Array {
    const data = new Uint8Array(width);
    this.bus.read(VIRTIO_MMIO_ADDR + offset, data);
    return data;
  }

  writeBytes(offset: number, data: Uint8Array): void | Promise<void> {
    return this.bus.write(VIRTIO_MMIO_ADDR + offset, data);
  }

  read(offset: number): number {
    return new DataView(this.readBytes(offset, 4).buffer).getUint32(0, true);
  }

  write(offset: number, value: number): void | Promise<void> {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value >>> 0, true);
    return this.writeBytes(offset, data);
  }

  writeQueueAddresses(desc: number, avail: number, used: number): void {
    const write64 = (offset: number, addr: number): void => {
      void this.write(offset, addr % 0x1_0000_0000);
      void this.write(offset + 4, Math.floor(addr / 0x1_0000_0000));
    };
    write64(REG.QueueDescLow, desc);
    write64(REG.QueueDriverLow, avail);
    write64(REG.QueueDeviceLow, used);
  }

  get core(): VirtioCore {
    return this.slot.core;
  }

  get status(): number {
    return this.read(REG.Status);
  }

  get generation(): number {
    return this.read(REG.ConfigGeneration);
  }

  get pendingInterrupts(): number {
    return this.read(REG.InterruptStatus);
  }

  writeStatus(value: number): void | Promise<void> {
    return this.write(REG.Status, value);
  }

  offeredWord(index: number): number {
    void this.write(REG.DeviceFeaturesSel, index);
    return this.read(REG.DeviceFeatures);
  }

  acceptWord(index: number, word: number): void {
    void this.write(REG.DriverFeaturesSel, index);
    void this.write(REG.DriverFeatures, word);
  }

  maxQueueSize(index: number): number {
    void this.write(REG.QueueSel, index);
    return this.read(REG.QueueSizeMax);
  }

  startQueue(index: number, { size, descAddr, availAddr, usedAddr }: QueueLayout): void {
    void this.write(REG.QueueSel, index);
    void this.write(REG.QueueSize, size);
    this.writeQueueAddresses(descAddr, availAddr, usedAddr);
    void this.write(REG.QueueReady, 1);
  }

  notify(index: number): void {
    void this.write(REG.QueueNotify, index);
  }

  readConfig(offset: number, width: number): Uint8Array {
    return this.readBytes(CONFIG_OFFSET + offset, width);
  }

  writeConfig(offset: number, data: Uint8Array): void {
    void this.writeBytes(CONFIG_OFFSET + offset, data);
  }

  takeInterrupts(): number {
    const pending = this.pendingInterrupts;
    void this.write(REG.InterruptACK, pending);
    return pending;
  }

  save(): VirtioCoreState {
    return this.slot.save();
  }

  restore(state: VirtioCoreState): void {
    this.slot.restore(state as ReturnType<VirtioMmio['save']>);
  }
}

export const TRANSPORTS = {
  mmio: (options, onInterrupt) => new MmioTransport(options, onInterrupt),
  core: (options, onInterrupt) => new CoreTransport(options, onInterrupt),
} as const satisfies Readonly<Record<string, MakeTransport>>;
export type TransportName = keyof typeof TRANSPORTS;
export const TRANSPORT_NAMES = Object.keys(TRANSPORTS) as TransportName[];
