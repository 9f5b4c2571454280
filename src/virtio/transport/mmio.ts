/**
 * The virtio-mmio transport, version 2: registers and one interrupt for a device. What they do is the core's (core.ts).
 *
 * All readable registers live in one page of bytes that is kept current, so that the machine can serve reads from it
 * without asking (`load` registers); InterruptStatus is in it too, and is acknowledged without asking (`clear-bits`).
 * So an interrupt costs no JavaScript on the guest's way in, and probing a device costs its writes only.
 *
 * @spec virtio-1.3 4.2.2  MMIO device registers            #yes
 * @spec virtio-1.3 4.2.3  Initialization and operation     #yes
 * @spec virtio-1.3 4.2.4  Legacy interface                 #no   every kernel since 2016 speaks version 2
 * @spec virtio-1.3 2.10   Shared memory regions            #no   lengths read as -1
 */
import type { BusDevice, FastRegister } from '../../bus/bus-device.js';
import type { Irq } from '../../bus/irq.js';
import { VirtioCore, type VirtioCoreOptions, type VirtioCoreState } from './core.js';
import { unsetLayout } from './queue-set.js';

/** Where the device-specific configuration space begins. */
export const CONFIG_OFFSET = 0x100;

const MAGIC = 0x7472_6976; // "virt"
const VERSION = 2;
const VENDOR = 0x4d56_5354; // "TSVM"
const INTERRUPT_USED_BUFFER = 1;
const INTERRUPT_CONFIG_CHANGE = 2;
const ALL_ONES = 0xffff_ffff;

/** Register offsets (virtio 1.3, table 4.1). */
export const REG = {
  MagicValue: 0x000,
  Version: 0x004,
  DeviceID: 0x008,
  VendorID: 0x00c,
  DeviceFeatures: 0x010,
  DeviceFeaturesSel: 0x014,
  DriverFeatures: 0x020,
  DriverFeaturesSel: 0x024,
  QueueSel: 0x030,
  QueueSizeMax: 0x034,
  QueueSize: 0x038,
  QueueReady: 0x044,
  QueueNotify: 0x050,
  InterruptStatus: 0x060,
  InterruptACK: 0x064,
  Status: 0x070,
  QueueDescLow: 0x080,
  QueueDescHigh: 0x084,
  QueueDriverLow: 0x090,
  QueueDriverHigh: 0x094,
  QueueDeviceLow: 0x0a0,
  QueueDeviceHigh: 0x0a4,
  SHMSel: 0x0ac,
  SHMLenLow: 0x0b0,
  SHMLenHigh: 0x0b4,
  SHMBaseLow: 0x0b8,
  SHMBaseHigh: 0x0bc,
  QueueReset: 0x0c0,
  ConfigGeneration: 0x0fc,
} as const;

const READABLE: readonly number[] = [
  REG.MagicValue,
  REG.Version,
  REG.DeviceID,
  REG.VendorID,
  REG.DeviceFeatures,
  REG.QueueSizeMax,
  REG.QueueReady,
  REG.InterruptStatus,
  REG.Status,
  REG.SHMLenLow,
  REG.SHMLenHigh,
  REG.SHMBaseLow,
  REG.SHMBaseHigh,
  REG.QueueReset,
  REG.ConfigGeneration,
];

export interface VirtioMmioOptions extends VirtioCoreOptions {
  readonly irq: Irq;
}

/** Saved state of a {@link VirtioMmio} and its device. */
export interface VirtioMmioState extends VirtioCoreState {
  readonly deviceFeaturesSel: number;
  readonly driverFeaturesSel: number;
  readonly queueSel: number;
  readonly interruptStatus: number;
}

/** A queue as its registers say, before it is ready and after. */
interface QueueRegisters {
  size: number;
  descAddr: number;
  availAddr: number;
  usedAddr: number;
}

type AddressField = Exclude<keyof QueueRegisters, 'size'>;

/** Registers that are halves of an address of the selected queue. */
const ADDRESS_HALVES: Readonly<Record<number, readonly [field: AddressField, half: 'low' | 'high']>> = {
  [REG.QueueDescLow]: ['descAddr', 'low'],
  [REG.QueueDescHigh]: ['descAddr', 'high'],
  [REG.QueueDriverLow]: ['availAddr', 'low'],
  [REG.QueueDriverHigh]: ['availAddr', 'high'],
  [REG.QueueDeviceLow]: ['usedAddr', 'low'],
  [REG.QueueDeviceHigh]: ['usedAddr', 'high'],
};

/**
 * A device's registers and queues, as the driver finds them at an address.
 *
 * @example
 * ```ts
 * import { randomFillSync } from 'node:crypto';
 * import { Bus } from '../../bus/bus.js';
 * import { Rng } from '../../devices/rng.js';
 * import { createGuestMemory } from '../../memory/guest-memory.js';
 * import { VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES } from '../../memory/layout.js';
 * import { VirtioMmio } from './mmio.js';
 *
 * const slot = new VirtioMmio({
 *   device: new Rng({ fillRandom: (target) => void randomFillSync(target) }),
 *   memory: createGuestMemory([{ addr: 0, bytes: new Uint8Array(1 << 20) }]),
 *   irq: { trigger: () => console.log('interrupt') },
 * });
 * new Bus().attach(VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES, slot);
 * ```
 */
export class VirtioMmio implements BusDevice {
  readonly name: string;
  readonly core: VirtioCore;
  readonly fastRegisters: readonly FastRegister[];
  readonly #irq: Irq;
  /** The registers below CONFIG_OFFSET as they read; zero where they cannot be read. */
  readonly #page = new Uint8Array(CONFIG_OFFSET);
  readonly #pageView = new DataView(this.#page.buffer);
  readonly #interruptStatus = new Int32Array(this.#page.buffer, REG.InterruptStatus, 1);
  readonly #queues: readonly QueueRegisters[];
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #queueSel = 0;

  constructor(options: VirtioMmioOptions) {
    const { device, irq } = options;
    this.name = device.name;
    this.#irq = irq;
    this.#queues = device.queueSizes.map(unsetLayout);
    const face = {
      showStatus: (status: number) => this.#showStatus(status),
      showGeneration: (generation: number) => this.#set(REG.ConfigGeneration, generation),
      interruptQueue: () => this.#interrupt(INTERRUPT_USED_BUFFER),
      interruptConfig: () => this.#interrupt(INTERRUPT_CONFIG_CHANGE),
    };
    this.core = new VirtioCore(face, options);
    this.#set(REG.MagicValue, MAGIC);
    this.#set(REG.Version, VERSION);
    this.#set(REG.DeviceID, device.deviceId);
    this.#set(REG.VendorID, VENDOR);
    // virtio 1.3, 4.2.2: the length of a shared memory region that does not exist reads as -1.
    for (const offset of [REG.SHMLenLow, REG.SHMLenHigh, REG.SHMBaseLow, REG.SHMBaseHigh])
      this.#set(offset, ALL_ONES);
    this.#showFeatures();
    this.#showQueue();
    this.fastRegisters = this.#makeFastRegisters();
  }

  #makeFastRegisters(): FastRegister[] {
    const config = this.core.device.config?.bytes ?? new Uint8Array(0);
    const load = (offset: number, cell: Uint8Array): FastRegister => ({ kind: 'load', offset, cell });
    return [
      ...READABLE.map((offset) => load(offset, this.#page.subarray(offset, offset + 4))),
      ...Array.from({ length: config.length >>> 2 }, (_, i) =>
        load(CONFIG_OFFSET + 4 * i, config.subarray(4 * i, 4 * i + 4)),
      ),
      { kind: 'clear-bits', offset: REG.InterruptACK, cell: this.#interruptStatus },
      ...this.#queues.map(
        (_, index): FastRegister => ({
          kind: 'doorbell',
          offset: REG.QueueNotify,
          value: index,
          onWrite: () => this.core.notify(index),
        }),
      ),
    ];
  }

  read(offset: number, data: Uint8Array): void {
    if (offset >= CONFIG_OFFSET) {
      // virtio 1.3, 4.2.2.2: configuration may be read in any width.
      this.core.readConfig(offset - CONFIG_OFFSET, data);
      return;
    }
    data.fill(0);
    if (isRegisterAccess(offset, data.length))
      for (let i = 0; i < 4; i++) data[i] = this.#page[offset + i] as number;
  }

  write(offset: number, data: Uint8Array): void | Promise<void> {
    if (offset >= CONFIG_OFFSET) {
      this.core.writeConfig(offset - CONFIG_OFFSET, data);
      return;
    }
    // virtio 1.3, 4.2.2.2 MUST (driver): 32-bit wide and aligned accesses only.
    if (!isRegisterAccess(offset, data.length)) {
      this.#refuse();
      return;
    }
    const value = (data[0]! | (data[1]! << 8) | (data[2]! << 16) | (data[3]! << 24)) >>> 0;
    switch (offset) {
      case REG.DeviceFeaturesSel:
        this.#deviceFeaturesSel = value;
        this.#showFeatures();
        return;
      case REG.DriverFeatures:
        this.core.setFeatureWord(this.#driverFeaturesSel, value);
        return;
      case REG.DriverFeaturesSel:
        this.#driverFeaturesSel = value;
        return;
      case REG.QueueSel:
        this.#queueSel = value;
        this.#showQueue();
        return;
      case REG.QueueReady:
        this.#writeQueueReady(value);
        return;
      case REG.QueueNotify:
        this.core.notify(value);
        return;
      case REG.InterruptACK:
        Atomics.and(this.#interruptStatus, 0, ~value);
        return;
      case REG.Status:
        return this.core.writeStatus(value);
      case REG.SHMSel: // every region reads as missing
        return;
      default:
        this.#writeQueueRegister(offset, value);
    }
  }

  #refuse(): void {
    this.core.counters.refusedWrites++;
  }

  #set(offset: number, value: number): void {
    this.#pageView.setUint32(offset, value, true);
  }

  #showFeatures(): void {
    this.#set(REG.DeviceFeatures, this.core.offeredWord(this.#deviceFeaturesSel));
  }

  /** virtio 1.3, 4.2.2: a queue that does not exist has a maximum size of 0. */
  #showQueue(): void {
    this.#set(REG.QueueSizeMax, this.core.device.queueSizes[this.#queueSel] ?? 0);
    this.#set(REG.QueueReady, this.core.isReady(this.#queueSel) ? 1 : 0);
  }

  /** After a reset every register is as at first before the status says so. */
  #showStatus(status: number): void {
    if (status === 0) this.#clear();
    this.#set(REG.Status, status);
  }

  #clear(): void {
    this.#deviceFeaturesSel = 0;
    this.#driverFeaturesSel = 0;
    this.#queueSel = 0;
    this.#queues.forEach((queue, index) => {
      Object.assign(queue, unsetLayout(this.core.device.queueSizes[index] as number));
    });
    Atomics.store(this.#interruptStatus, 0, 0);
    this.#showFeatures();
    this.#showQueue();
  }

  #interrupt(bit: number): void {
    Atomics.or(this.#interruptStatus, 0, bit);
    this.#irq.trigger();
  }

  /** virtio 1.3, 4.2.2.2: not while the queue is ready. */
  #writeQueueRegister(offset: number, value: number): void {
    const queue = this.#queues[this.#queueSel];
    const half = ADDRESS_HALVES[offset];
    if (queue === undefined || this.core.queuesLocked || this.core.isReady(this.#queueSel)) this.#refuse();
    else if (offset === REG.QueueSize) queue.size = value;
    else if (half !== undefined) queue[half[0]] = withHalf(queue[half[0]], half[1], value);
    else this.#refuse();
  }

  #writeQueueReady(value: number): void {
    const index = this.#queueSel;
    const queue = this.#queues[index];
    if (queue === undefined || this.core.queuesLocked) {
      this.#refuse();
      return;
    }
    const ready = this.core.isReady(index);
    if (value === 1 && !ready) {
      const problem = this.core.startQueue(index, queue);
      if (problem !== undefined) this.core.needsReset(problem);
    } else if (value === 0 && ready) {
      this.core.stopQueue(index);
    }
    this.#showQueue();
  }

  /** The state of transport and device. Only while paused. */
  save(): VirtioMmioState {
    const state = this.core.save();
    return {
      ...state,
      deviceFeaturesSel: this.#deviceFeaturesSel,
      driverFeaturesSel: this.#driverFeaturesSel,
      queueSel: this.#queueSel,
      interruptStatus: Atomics.load(this.#interruptStatus, 0),
      queues: state.queues.map((saved, index) => ({ ...saved, ...this.#queues[index] })),
    };
  }

  /** Takes over saved state, into a new transport. It stays paused until the core's `resume`. Guest memory must be in place. */
  restore(state: VirtioMmioState): void {
    this.core.restore(state);
    state.queues.forEach(({ size, descAddr, availAddr, usedAddr }, index) => {
      Object.assign(this.#queues[index] as QueueRegisters, { size, descAddr, availAddr, usedAddr });
    });
    this.#deviceFeaturesSel = state.deviceFeaturesSel >>> 0;
    this.#driverFeaturesSel = state.driverFeaturesSel >>> 0;
    this.#queueSel = state.queueSel >>> 0;
    Atomics.store(this.#interruptStatus, 0, state.interruptStatus & 3);
    this.#showFeatures();
    this.#showQueue();
  }
}

/** An address with one half written. One of 2^53 and more loses its low bits, and is refused for not being RAM. */
function withHalf(addr: number, half: 'low' | 'high', value: number): number {
  const low = addr % 0x1_0000_0000;
  return half === 'low' ? addr - low + value : value * 0x1_0000_0000 + low;
}

function isRegisterAccess(offset: number, length: number): boolean {
  return length === 4 && offset % 4 === 0;
}
