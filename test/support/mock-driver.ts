/**
 * Plays the guest's virtio driver over plain memory: set-up in the order of the spec, buffers, notifications, used ring.
 *
 * It is well-behaved by default. Tests that need it hostile write descriptors and ring entries through its `raw`
 * methods, which check nothing.
 */
import { Bus } from '../../src/bus/bus.js';
import { createGuestMemory, type GuestMemory, type MemoryRegion } from '../../src/memory/guest-memory.js';
import { VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES } from '../../src/memory/layout.js';
import { MIB } from '../../src/util/units.js';
import type { VirtioDevice } from '../../src/virtio/device.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from '../../src/virtio/features.js';
import { CONFIG_OFFSET, REG, VirtioMmio } from '../../src/virtio/transport/mmio.js';

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export const ACKNOWLEDGE = 1;
export const DRIVER = 2;
export const DRIVER_OK = 4;
export const FEATURES_OK = 8;
export const NEEDS_RESET = 64;
export const FAILED = 128;

const BASE = VIRTIO_MMIO_ADDR;
const MEMORY_BYTES = 4 * MIB;
/** Rings and buffers are given out from here. */
const HEAP_ADDR = 0x1000;

export interface Descriptor {
  addr: number;
  length: number;
  flags?: number;
  next?: number;
}

export interface RigOptions {
  /** Default: one region of 4 MiB at 0. */
  readonly regions?: readonly MemoryRegion[];
  /** Memory beside RAM. */
  readonly readOnlyRegions?: readonly MemoryRegion[];
}

/** A device on a bus, with memory, an interrupt counter and a driver. */
export class Rig {
  readonly memory: GuestMemory;
  readonly bus = new Bus();
  readonly slot: VirtioMmio;
  readonly driver: MockDriver;
  /** Edges so far. */
  interrupts = 0;
  /** Reasons for DEVICE_NEEDS_RESET so far. */
  readonly failures: string[] = [];
  /** Tasks that the transport deferred. */
  readonly deferred: (() => void)[] = [];

  constructor(device: VirtioDevice, options: RigOptions = {}) {
    this.memory = createGuestMemory(
      options.regions ?? [{ addr: 0, bytes: new Uint8Array(MEMORY_BYTES) }],
      options.readOnlyRegions,
    );
    this.slot = new VirtioMmio({
      device,
      memory: this.memory,
      irq: { trigger: () => this.interrupts++ },
      events: { needsReset: (_device, reason) => this.failures.push(reason) },
      defer: (task) => this.deferred.push(task),
    });
    this.bus.attach(BASE, VIRTIO_MMIO_BYTES, this.slot);
    this.driver = new MockDriver(this.bus, this.memory);
  }

  /** Runs what was deferred, once. */
  runDeferred(): void {
    for (const task of this.deferred.splice(0)) task();
  }
}

export interface StartOptions {
  /** Feature bits to accept, of those offered. Default: all. */
  readonly features?: bigint;
  /** Size of every queue. Default: the greatest. */
  readonly queueSize?: number;
}

export class MockDriver {
  readonly queues: MockQueue[] = [];
  features = 0n;
  readonly #bus: Bus;
  readonly #memory: GuestMemory;
  #heap = HEAP_ADDR;

  constructor(bus: Bus, memory: GuestMemory) {
    this.#bus = bus;
    this.#memory = memory;
  }

  /** Guest memory for the driver's own use. */
  allocate(length: number, alignment = 16): number {
    const addr = Math.ceil(this.#heap / alignment) * alignment;
    this.#heap = addr + length;
    return addr;
  }

  readBytes(offset: number, width: number): Uint8Array {
    const data = new Uint8Array(width);
    this.#bus.read(BASE + offset, data);
    return data;
  }

  writeBytes(offset: number, data: Uint8Array): void | Promise<void> {
    return this.#bus.write(BASE + offset, data);
  }

  read(offset: number): number {
    const data = this.readBytes(offset, 4);
    return new DataView(data.buffer).getUint32(0, true);
  }

  write(offset: number, value: number): void | Promise<void> {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value >>> 0, true);
    return this.writeBytes(offset, data);
  }

  config(offset: number, width: number): number {
    const data = this.readBytes(CONFIG_OFFSET + offset, width);
    return data.reduceRight((value, byte) => value * 256 + byte, 0);
  }

  get status(): number {
    return this.read(REG.Status);
  }

  setStatus(bits: number): void | Promise<void> {
    return this.write(REG.Status, this.status | bits);
  }

  reset(): void | Promise<void> {
    this.queues.length = 0;
    return this.write(REG.Status, 0);
  }

  offeredFeatures(): bigint {
    this.write(REG.DeviceFeaturesSel, 1);
    const high = this.read(REG.DeviceFeatures);
    this.write(REG.DeviceFeaturesSel, 0);
    return (BigInt(high) << 32n) | BigInt(this.read(REG.DeviceFeatures));
  }

  acceptFeatures(features: bigint): void {
    this.features = features;
    for (const word of [0, 1]) {
      this.write(REG.DriverFeaturesSel, word);
      this.write(REG.DriverFeatures, Number((features >> BigInt(32 * word)) & 0xffff_ffffn));
    }
  }

  /** virtio 1.3, 3.1.1, up to the point where queues are set up. Returns whether FEATURES_OK stuck. */
  negotiate(features?: bigint): boolean {
    this.reset();
    this.setStatus(ACKNOWLEDGE);
    this.setStatus(DRIVER);
    this.acceptFeatures(features ?? this.offeredFeatures());
    this.setStatus(FEATURES_OK);
    return (this.status & FEATURES_OK) !== 0;
  }

  /** Allocates rings, tells the device of them and makes the queue ready. */
  setUpQueue(index: number, size?: number): MockQueue {
    this.write(REG.QueueSel, index);
    const queueSize = size ?? this.read(REG.QueueSizeMax);
    const queue = new MockQueue(this, this.#memory, index, queueSize);
    this.write(REG.QueueSize, queueSize);
    this.writeQueueAddresses(queue.descAddr, queue.availAddr, queue.usedAddr);
    this.write(REG.QueueReady, 1);
    this.queues[index] = queue;
    return queue;
  }

  writeQueueAddresses(desc: number, avail: number, used: number): void {
    const write64 = (offset: number, addr: number): void => {
      this.write(offset, addr % 0x1_0000_0000);
      this.write(offset + 4, Math.floor(addr / 0x1_0000_0000));
    };
    write64(REG.QueueDescLow, desc);
    write64(REG.QueueDriverLow, avail);
    write64(REG.QueueDeviceLow, used);
  }

  /** All of virtio 1.3, 3.1.1. */
  start(options: StartOptions = {}): this {
    if (!this.negotiate(options.features)) throw new Error('the device refused its own features');
    for (let index = 0; ; index++) {
      this.write(REG.QueueSel, index);
      if (this.read(REG.QueueSizeMax) === 0) break;
      this.setUpQueue(index, options.queueSize);
    }
    this.setStatus(DRIVER_OK);
    return this;
  }

  queue(index: number): MockQueue {
    const queue = this.queues[index];
    if (queue === undefined) throw new Error(`queue ${index} is not set up`);
    return queue;
  }

  /** Reads and acknowledges InterruptStatus. */
  takeInterrupt(): number {
    const status = this.read(REG.InterruptStatus);
    this.write(REG.InterruptACK, status);
    return status;
  }
}

export interface AddOptions {
  /** Put the descriptors into a table of their own. */
  readonly indirect?: boolean;
}

/** Record that the driver keeps of a request. */
export interface Request {
  readonly head: number;
  /** Addresses of the writable buffers. */
  readonly writable: readonly { addr: number; length: number }[];
}

export class MockQueue {
  readonly index: number;
  readonly size: number;
  readonly descAddr: number;
  readonly availAddr: number;
  readonly usedAddr: number;
  readonly #driver: MockDriver;
  readonly #memory: GuestMemory;
  #nextDesc = 0;
  #nextAvail = 0;
  #seenUsed = 0;

  constructor(driver: MockDriver, memory: GuestMemory, index: number, size: number) {
    this.#driver = driver;
    this.#memory = memory;
    this.index = index;
    this.size = size;
    this.descAddr = driver.allocate(16 * size, 16);
    this.availAddr = driver.allocate(6 + 2 * size, 2);
    this.usedAddr = driver.allocate(6 + 8 * size, 4);
  }

  get availIdx(): number {
    return this.#memory.readU16(this.availAddr + 2);
  }

  get usedIdx(): number {
    return this.#memory.readU16(this.usedAddr + 2);
  }

  /** Number that the device asked for: notify when the buffer of this index is made available. */
  get availEvent(): number {
    return this.#memory.readU16(this.usedAddr + 4 + 8 * this.size);
  }

  set usedEvent(index: number) {
    this.#memory.writeU16(this.availAddr + 4 + 2 * this.size, index);
  }

  set availFlags(flags: number) {
    this.#memory.writeU16(this.availAddr, flags);
  }

  /** Writes a descriptor with no check of any kind. */
  rawDescriptor(index: number, descriptor: Descriptor, table = this.descAddr): void {
    const at = table + 16 * index;
    this.#memory.writeU64(at, descriptor.addr);
    this.#memory.writeU32(at + 8, descriptor.length);
    this.#memory.writeU16(at + 12, descriptor.flags ?? 0);
    this.#memory.writeU16(at + 14, descriptor.next ?? 0);
  }

  /** Makes a head available with no check of any kind. */
  rawPublish(head: number): void {
    this.#memory.writeU16(this.availAddr + 4 + 2 * (this.#nextAvail % this.size), head);
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    this.#memory.storeU16(this.availAddr + 2, this.#nextAvail);
  }

  rawAvailIdx(index: number): void {
    this.#nextAvail = index & 0xffff;
    this.#memory.storeU16(this.availAddr + 2, this.#nextAvail);
  }

  /** Adds a request: bytes that the device reads, then lengths that it may write. Descriptors are never freed early. */
  add(readable: readonly Uint8Array[], writable: readonly number[], options: AddOptions = {}): Request {
    const parts: Descriptor[] = [];
    for (const bytes of readable) {
      const addr = this.#driver.allocate(bytes.length);
      this.#memory.write(addr, bytes);
      parts.push({ addr, length: bytes.length });
    }
    const room = writable.map((length) => ({ addr: this.#driver.allocate(length), length }));
    for (const { addr, length } of room) parts.push({ addr, length, flags: WRITE });
    return { head: this.addDescriptors(parts, options), writable: room };
  }

  /** Adds a request of these buffers, wherever they are; returns its head. */
  addDescriptors(parts: readonly Descriptor[], options: AddOptions = {}): number {
    const last = parts.length - 1;
    const flags = (part: Descriptor, i: number): number => (part.flags ?? 0) | (i === last ? 0 : NEXT);
    const head = this.#nextDesc;
    if (options.indirect === true) {
      const table = this.#driver.allocate(16 * parts.length);
      parts.forEach((part, i) => {
        this.rawDescriptor(i, { ...part, flags: flags(part, i), next: i + 1 }, table);
      });
      this.rawDescriptor(head, { addr: table, length: 16 * parts.length, flags: INDIRECT });
      this.#nextDesc = (head + 1) % this.size;
    } else {
      parts.forEach((part, i) => {
        const next = (head + i + 1) % this.size;
        this.rawDescriptor((head + i) % this.size, { ...part, flags: flags(part, i), next });
      });
      this.#nextDesc = (head + parts.length) % this.size;
    }
    this.rawPublish(head);
    return head;
  }

  kick(): void {
    this.#driver.write(REG.QueueNotify, this.index);
  }

  /** Chains that the device returned since the last call. */
  used(): { head: number; length: number }[] {
    const entries = [];
    const idx = this.usedIdx;
    while (this.#seenUsed !== idx) {
      const at = this.usedAddr + 4 + 8 * (this.#seenUsed % this.size);
      entries.push({ head: this.#memory.readU32(at), length: this.#memory.readU32(at + 4) });
      this.#seenUsed = (this.#seenUsed + 1) & 0xffff;
    }
    return entries;
  }

  /** The writable part of a request, joined. */
  written(request: Request): Uint8Array {
    return Buffer.concat(request.writable.map(({ addr, length }) => this.#memory.read(addr, length)));
  }
}

/** Without EVENT_IDX, as the simplest drivers are. */
export function withoutEventIdx(features: bigint): bigint {
  return features & ~VIRTIO_F_EVENT_IDX;
}

export function withoutIndirect(features: bigint): bigint {
  return features & ~VIRTIO_F_INDIRECT_DESC;
}
