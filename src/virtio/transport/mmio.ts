/**
 * The virtio-mmio transport, version 2: registers, negotiation, queues, interrupts and reset for one device.
 *
 * All readable registers live in one page of bytes that is kept current, so that the machine can serve reads from it
 * without asking (`load` registers); InterruptStatus is in it too, and is acknowledged without asking (`clear-bits`).
 * So an interrupt costs no JavaScript on the guest's way in, and probing a device costs its writes only.
 *
 * @spec virtio-1.3 4.2.2  MMIO device registers            #yes
 * @spec virtio-1.3 4.2.3  Initialization and operation     #yes
 * @spec virtio-1.3 4.2.4  Legacy interface                 #no   every kernel since 2016 speaks version 2
 * @spec virtio-1.3 2.6.1  Virtqueue reset                  #no   VIRTIO_F_RING_RESET is not offered
 * @spec virtio-1.3 2.10   Shared memory regions            #no   lengths read as -1
 */
import assert from 'node:assert';
import type { BusDevice, FastRegister } from '../../bus/bus-device.js';
import type { Irq } from '../../bus/irq.js';
import { GuestError } from '../../errors.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import { checkState, checkStateVersion, type VersionedState } from '../../util/state.js';
import { DEFAULT_REQUEST_BYTES, type DeviceState, type VirtioContext, type VirtioDevice } from '../device.js';
import {
  featureWord,
  refuseFeatures,
  TRANSPORT_FEATURES,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  withFeatureWord,
} from '../features.js';
import {
  MAX_QUEUE_SIZE,
  newQueueCounters,
  type QueueCounters,
  type QueuePosition,
  refuseLayout,
  SplitQueue,
} from '../queue.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  writeStatus,
} from '../status.js';

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

/** What the transport tells the machine. */
export interface TransportEvents {
  /** The device can no longer work: DEVICE_NEEDS_RESET was set, and was not before. */
  needsReset?(device: string, reason: string): void;
  /** Something threw in the device that is no GuestError. Default: it is thrown on. */
  fault?(device: string, error: unknown): void;
}

export interface VirtioMmioOptions {
  readonly device: VirtioDevice;
  readonly memory: GuestMemory;
  readonly irq: Irq;
  readonly events?: TransportEvents;
  /** Runs a task soon, but after whatever else is waiting. Default: setImmediate. */
  readonly defer?: (task: () => void) => void;
}

export interface TransportCounters {
  /** Times that DEVICE_NEEDS_RESET was set or would have been. */
  needsReset: number;
  /** Register writes that came at the wrong time, or with the wrong width, and were dropped. */
  refusedWrites: number;
  readonly queues: readonly QueueCounters[];
}

/** A queue as the driver configures it, before and after it is ready. Address halves are as written. */
interface QueueRegisters {
  size: number;
  ready: boolean;
  descLow: number;
  descHigh: number;
  availLow: number;
  availHigh: number;
  usedLow: number;
  usedHigh: number;
}

type QueueField = Exclude<keyof QueueRegisters, 'ready'>;

/** Saved state of a {@link VirtioMmio} and its device. */
export interface VirtioMmioState extends VersionedState {
  readonly deviceId: number;
  readonly status: number;
  readonly deviceFeaturesSel: number;
  readonly driverFeaturesSel: number;
  /** Hexadecimal, as JSON has no bigint. */
  readonly driverFeatures: string;
  readonly queueSel: number;
  readonly interruptStatus: number;
  readonly configGeneration: number;
  readonly queues: readonly (Readonly<QueueRegisters> & { readonly position: QueuePosition | null })[];
  readonly device: DeviceState;
}

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
  readonly device: VirtioDevice;
  readonly counters: TransportCounters;
  readonly fastRegisters: readonly FastRegister[];
  readonly #memory: GuestMemory;
  readonly #irq: Irq;
  readonly #events: TransportEvents;
  readonly #defer: (task: () => void) => void;
  readonly #offered: bigint;
  /** The registers below CONFIG_OFFSET as they read; zero where they cannot be read. */
  readonly #page = new Uint8Array(CONFIG_OFFSET);
  readonly #pageView = new DataView(this.#page.buffer);
  readonly #interruptStatus = new Int32Array(this.#page.buffer, REG.InterruptStatus, 1);
  readonly #config: Uint8Array;
  readonly #registers: readonly QueueRegisters[];
  readonly #deferred: boolean[];
  /** The live queues, from DRIVER_OK to reset. */
  #queues: (SplitQueue | undefined)[] = [];
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #driverFeatures = 0n;
  /** The driver set bits in feature words that do not exist. */
  #driverFeaturesBeyond = false;
  #queueSel = 0;
  #paused = false;
  /** Counts resets, so that what was begun before one can tell. */
  #epoch = 0;
  #resetting: Promise<void> | undefined;

  constructor(options: VirtioMmioOptions) {
    const { device } = options;
    for (const size of device.queueSizes) {
      assert(
        size > 0 && size <= MAX_QUEUE_SIZE && (size & (size - 1)) === 0,
        `${device.name}: queue size ${size}`,
      );
    }
    this.name = device.name;
    this.device = device;
    this.#memory = options.memory;
    this.#irq = options.irq;
    this.#events = options.events ?? {};
    this.#defer = options.defer ?? ((task) => void setImmediate(task));
    this.#offered = device.features | TRANSPORT_FEATURES;
    this.#config = device.config?.bytes ?? new Uint8Array(0);
    this.#registers = device.queueSizes.map((size) => newQueueRegisters(size));
    this.#deferred = device.queueSizes.map(() => false);
    this.counters = { needsReset: 0, refusedWrites: 0, queues: device.queueSizes.map(newQueueCounters) };
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
    const load = (offset: number, cell: Uint8Array): FastRegister => ({ kind: 'load', offset, cell });
    return [
      ...READABLE.map((offset) => load(offset, this.#page.subarray(offset, offset + 4))),
      ...Array.from({ length: this.#config.length >>> 2 }, (_, i) =>
        load(CONFIG_OFFSET + 4 * i, this.#config.subarray(4 * i, 4 * i + 4)),
      ),
      { kind: 'clear-bits', offset: REG.InterruptACK, cell: this.#interruptStatus },
      ...this.#registers.map(
        (_, index): FastRegister => ({
          kind: 'doorbell',
          offset: REG.QueueNotify,
          value: index,
          onWrite: () => this.#kick(index),
        }),
      ),
    ];
  }

  read(offset: number, data: Uint8Array): void {
    data.fill(0);
    if (offset >= CONFIG_OFFSET) {
      // virtio 1.3, 4.2.2.2: configuration may be read in any width; what lies beyond it reads 0.
      const from = offset - CONFIG_OFFSET;
      for (let i = 0; i < data.length; i++) data[i] = this.#config[from + i] ?? 0;
    } else if (isRegisterAccess(offset, data.length)) {
      for (let i = 0; i < 4; i++) data[i] = this.#page[offset + i] as number;
    }
  }

  write(offset: number, data: Uint8Array): void | Promise<void> {
    if (offset >= CONFIG_OFFSET) {
      this.#writeConfig(offset - CONFIG_OFFSET, data);
      return;
    }
    // virtio 1.3, 4.2.2.2 MUST (driver): 32-bit wide and aligned accesses only.
    if (!isRegisterAccess(offset, data.length)) {
      this.counters.refusedWrites++;
      return;
    }
    const value = (data[0]! | (data[1]! << 8) | (data[2]! << 16) | (data[3]! << 24)) >>> 0;
    switch (offset) {
      case REG.DeviceFeaturesSel:
        this.#deviceFeaturesSel = value;
        this.#showFeatures();
        return;
      case REG.DriverFeatures:
        this.#writeDriverFeatures(value);
        return;
      case REG.DriverFeaturesSel:
        this.#driverFeaturesSel = value;
        return;
      case REG.QueueSel:
        this.#queueSel = value;
        this.#showQueue();
        return;
      case REG.QueueSize:
        this.#writeQueueField('size', value);
        return;
      case REG.QueueReady:
        this.#writeQueueReady(value);
        return;
      case REG.QueueNotify:
        this.#kick(value);
        return;
      case REG.InterruptACK:
        Atomics.and(this.#interruptStatus, 0, ~value);
        return;
      case REG.Status:
        return this.#writeStatus(value);
      case REG.QueueDescLow:
        this.#writeQueueField('descLow', value);
        return;
      case REG.QueueDescHigh:
        this.#writeQueueField('descHigh', value);
        return;
      case REG.QueueDriverLow:
        this.#writeQueueField('availLow', value);
        return;
      case REG.QueueDriverHigh:
        this.#writeQueueField('availHigh', value);
        return;
      case REG.QueueDeviceLow:
        this.#writeQueueField('usedLow', value);
        return;
      case REG.QueueDeviceHigh:
        this.#writeQueueField('usedHigh', value);
        return;
      case REG.SHMSel: // every region reads as missing
        return;
      default:
        this.counters.refusedWrites++;
    }
  }

  get #status(): number {
    return this.#page[REG.Status] as number;
  }

  #set(offset: number, value: number): void {
    this.#pageView.setUint32(offset, value, true);
  }

  #showFeatures(): void {
    this.#set(REG.DeviceFeatures, featureWord(this.#offered, this.#deviceFeaturesSel));
  }

  /** virtio 1.3, 4.2.2: a queue that does not exist has a maximum size of 0. */
  #showQueue(): void {
    this.#set(REG.QueueSizeMax, this.device.queueSizes[this.#queueSel] ?? 0);
    this.#set(REG.QueueReady, this.#registers[this.#queueSel]?.ready === true ? 1 : 0);
  }

  #writeConfig(offset: number, data: Uint8Array): void {
    const { config } = this.device;
    if (config?.write === undefined || offset + data.length > config.bytes.length) {
      this.counters.refusedWrites++;
      return;
    }
    this.#guarded(() => config.write?.(offset, data));
  }

  #writeDriverFeatures(word: number): void {
    // virtio 1.3, 3.1.1: the driver must not accept new features after FEATURES_OK.
    if ((this.#status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) {
      this.counters.refusedWrites++;
      return;
    }
    const index = this.#driverFeaturesSel;
    if (index === 0 || index === 1) this.#driverFeatures = withFeatureWord(this.#driverFeatures, index, word);
    else if (word !== 0) this.#driverFeaturesBeyond = true;
  }

  /** The selected queue, if its registers may be written now. */
  #writableQueue(): QueueRegisters | undefined {
    const queue = this.#registers[this.#queueSel];
    // virtio 1.3, 4.2.2.2: not while the queue is ready; and never under a live device, whatever the driver says.
    if (
      queue === undefined ||
      (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 ||
      this.#resetting !== undefined
    ) {
      this.counters.refusedWrites++;
      return undefined;
    }
    return queue;
  }

  #writeQueueField(field: QueueField, value: number): void {
    const queue = this.#writableQueue();
    if (queue === undefined) return;
    if (queue.ready) this.counters.refusedWrites++;
    else queue[field] = value;
  }

  #writeQueueReady(value: number): void {
    const queue = this.#writableQueue();
    if (queue === undefined) return;
    if (value === 1 && !queue.ready) {
      const index = this.#queueSel;
      const problem = refuseLayout(this.#memory, layoutOf(queue), this.device.queueSizes[index] as number);
      if (problem === undefined) queue.ready = true;
      else this.#needsReset(`queue ${index}: ${problem}`);
    } else if (value === 0) {
      queue.ready = false;
    }
    this.#showQueue();
  }

  #writeStatus(value: number): void | Promise<void> {
    if (value === 0) return this.#reset();
    if (this.#resetting !== undefined) {
      this.counters.refusedWrites++;
      return;
    }
    const before = this.#status;
    const after = writeStatus(before, value & 0xff, {
      acceptFeatures: () =>
        !this.#driverFeaturesBeyond && refuseFeatures(this.#offered, this.#driverFeatures) === undefined,
      refuse: () => this.counters.refusedWrites++,
    });
    this.#set(REG.Status, after);
    if ((after & VIRTIO_CONFIG_S_FAILED) !== 0) this.#killQueues();
    else if ((after & ~before & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#activate();
  }

  #activate(positions: readonly (QueuePosition | null)[] = []): void {
    const features = this.#driverFeatures;
    this.#queues = this.#registers.map((registers, index) => {
      if (!registers.ready) return undefined;
      const position = positions[index];
      return new SplitQueue({
        index,
        memory: this.#memory,
        layout: layoutOf(registers),
        indirect: (features & VIRTIO_F_INDIRECT_DESC) !== 0n,
        eventIdx: (features & VIRTIO_F_EVENT_IDX) !== 0n,
        maxRequestBytes: this.device.maxRequestBytes?.[index] ?? DEFAULT_REQUEST_BYTES,
        counters: this.counters.queues[index] as QueueCounters,
        events: {
          interrupt: () => this.#interrupt(INTERRUPT_USED_BUFFER),
          broken: (reason) => this.#needsReset(reason),
          yielded: () => this.#notifyLater(index),
          ...(this.device.dropRequest === undefined
            ? {}
            : { dropped: () => this.device.dropRequest?.(index) }),
        },
        ...(position === null || position === undefined ? {} : { position }),
      });
    });
    const epoch = this.#epoch;
    const context: VirtioContext = {
      memory: this.#memory,
      queues: this.#queues,
      features,
      configChanged: () => {
        if (this.#epoch === epoch) this.#guarded(() => this.#configChanged(), epoch);
      },
      needsReset: (reason) => {
        if (this.#epoch === epoch) this.#needsReset(reason);
      },
      enter: (call) => {
        this.#guarded(call, epoch);
      },
    };
    this.#guarded(() => this.device.activate(context));
  }

  /** The driver made buffers available, or says so. */
  #kick(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined) return; // unknown, not ready, or before DRIVER_OK
    (this.counters.queues[index] as QueueCounters).kicks++;
    this.#notify(index);
  }

  #notify(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined || this.#paused) return;
    queue.refill();
    this.#guarded(() => this.device.notify(queue));
  }

  /** Goes on with a queue whose device used up what one kick allows. */
  #notifyLater(index: number): void {
    if (this.#deferred[index] === true) return;
    this.#deferred[index] = true;
    this.#defer(() => {
      this.#deferred[index] = false;
      this.#notify(index);
    });
  }

  /** What leaves the device stops here: a GuestError of before a reset is forgotten with all else. */
  #guarded(call: () => void, epoch = this.#epoch): void {
    try {
      call();
    } catch (error) {
      if (error instanceof GuestError) {
        if (this.#epoch === epoch) this.#needsReset(error.message);
      } else if (this.#events.fault === undefined) throw error;
      else this.#events.fault(this.name, error);
    }
  }

  #interrupt(bit: number): void {
    Atomics.or(this.#interruptStatus, 0, bit);
    this.#irq.trigger();
  }

  #configChanged(): void {
    // virtio 1.3, 4.2.2.1 MUST: change ConfigGeneration if the configuration changed since it was last read.
    this.#set(REG.ConfigGeneration, this.#pageView.getUint32(REG.ConfigGeneration, true) + 1);
    this.#interrupt(INTERRUPT_CONFIG_CHANGE);
  }

  #needsReset(reason: string): void {
    this.counters.needsReset++;
    const status = this.#status;
    if ((status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) return;
    this.#set(REG.Status, status | VIRTIO_CONFIG_S_NEEDS_RESET);
    this.#killQueues();
    // virtio 1.3, 2.1.2 MUST: if DRIVER_OK is set, tell the driver by a configuration change notification.
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#interrupt(INTERRUPT_CONFIG_CHANGE);
    this.#events.needsReset?.(this.device.name, reason);
  }

  /** No device touches the rings from here on. */
  #killQueues(): void {
    for (const queue of this.#queues) queue?.kill();
    this.#queues = [];
  }

  /**
   * Status reads nonzero until the device has let go of guest memory, which is how the driver knows (virtio 1.3, 2.4.1
   * MUST); the vCPU that asked waits with the promise.
   */
  #reset(): void | Promise<void> {
    if (this.#resetting !== undefined) return this.#resetting;
    this.#epoch++;
    this.#killQueues();
    const pending = this.device.reset();
    if (pending === undefined) {
      this.#finishReset();
      return;
    }
    this.#resetting = pending.finally(() => {
      this.#resetting = undefined;
      this.#finishReset();
    });
    return this.#resetting;
  }

  #finishReset(): void {
    this.#deviceFeaturesSel = 0;
    this.#driverFeaturesSel = 0;
    this.#driverFeatures = 0n;
    this.#driverFeaturesBeyond = false;
    this.#queueSel = 0;
    this.#registers.forEach((registers, index) => {
      Object.assign(registers, newQueueRegisters(this.device.queueSizes[index] as number));
    });
    Atomics.store(this.#interruptStatus, 0, 0);
    this.#showFeatures();
    this.#showQueue();
    this.#set(REG.Status, 0);
  }

  /** Stops taking requests and waits until none is in flight. The vCPUs stand still, or may go on kicking. */
  async pause(): Promise<void> {
    this.#paused = true;
    try {
      await this.#resetting;
    } finally {
      await this.device.drain?.();
    }
  }

  /** Goes on after `pause` or `restore`; looks at every queue, since kicks may have been missed. */
  resume(): void {
    this.#paused = false;
    this.device.resume?.();
    for (const index of this.#registers.keys()) this.#notify(index);
  }

  /** The state of transport and device. Only while paused. */
  save(): VirtioMmioState {
    assert(this.#paused, `${this.name}: saved while it runs`);
    return {
      version: 1,
      deviceId: this.device.deviceId,
      status: this.#status,
      deviceFeaturesSel: this.#deviceFeaturesSel,
      driverFeaturesSel: this.#driverFeaturesSel,
      driverFeatures: this.#driverFeatures.toString(16),
      queueSel: this.#queueSel,
      interruptStatus: Atomics.load(this.#interruptStatus, 0),
      configGeneration: this.#pageView.getUint32(REG.ConfigGeneration, true),
      queues: this.#registers.map((registers, index) => {
        const queue = this.#queues[index];
        assert((queue?.inFlight ?? 0) === 0, `${this.name}: saved with requests in flight`);
        return { ...registers, position: queue?.position ?? null };
      }),
      device: this.device.save(),
    };
  }

  /** Takes over saved state, into a new transport. It stays paused until `resume`. Guest memory must be in place. */
  restore(state: VirtioMmioState): void {
    const { name } = this;
    checkStateVersion(name, state, 1);
    checkState(state.deviceId === this.device.deviceId, `${name}: it is of device type ${state.deviceId}`);
    checkState(
      state.queues.length === this.#registers.length,
      `${name}: it has ${state.queues.length} queues`,
    );
    checkState(/^[0-9a-f]{1,16}$/.test(state.driverFeatures), `${name}: features`);
    this.#paused = true;
    this.#driverFeatures = BigInt(`0x${state.driverFeatures}`);
    const negotiated = (state.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
    const problem = negotiated ? refuseFeatures(this.#offered, this.#driverFeatures) : undefined;
    checkState(problem === undefined, `${name}: ${problem}`);
    state.queues.forEach((saved, index) => {
      const registers = this.#registers[index] as QueueRegisters;
      for (const field of QUEUE_FIELDS) registers[field] = saved[field] >>> 0;
      registers.ready = saved.ready;
      // As if the guest had written it: saved state is no more trusted than a driver.
      const refused = saved.ready
        ? refuseLayout(this.#memory, layoutOf(registers), this.device.queueSizes[index] as number)
        : undefined;
      checkState(refused === undefined, `${name}: queue ${index}: ${refused}`);
      if (saved.position !== null) {
        for (const value of [
          saved.position.nextAvail,
          saved.position.nextUsed,
          saved.position.signalledUsed,
        ]) {
          checkState(
            Number.isInteger(value) && value >= 0 && value <= 0xffff,
            `${name}: queue ${index}: position`,
          );
        }
      }
    });
    this.#deviceFeaturesSel = state.deviceFeaturesSel >>> 0;
    this.#driverFeaturesSel = state.driverFeaturesSel >>> 0;
    this.#queueSel = state.queueSel >>> 0;
    this.#set(REG.Status, state.status & 0xff);
    this.#set(REG.ConfigGeneration, state.configGeneration);
    Atomics.store(this.#interruptStatus, 0, state.interruptStatus & 3);
    this.#showFeatures();
    this.#showQueue();
    this.device.restore(state.device);
    const live = VIRTIO_CONFIG_S_DRIVER_OK;
    const dead = VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;
    if ((state.status & (live | dead)) === live) this.#activate(state.queues.map(({ position }) => position));
  }

  /** Releases what the device holds of the host. */
  async close(): Promise<void> {
    this.#epoch++;
    this.#killQueues();
    await this.device.close?.();
  }
}

const QUEUE_FIELDS: readonly QueueField[] = [
  'size',
  'descLow',
  'descHigh',
  'availLow',
  'availHigh',
  'usedLow',
  'usedHigh',
];

function newQueueRegisters(size: number): QueueRegisters {
  return {
    size,
    ready: false,
    descLow: 0,
    descHigh: 0,
    availLow: 0,
    availHigh: 0,
    usedLow: 0,
    usedHigh: 0,
  };
}

/** Addresses of 2^53 and more lose their low bits here, and are refused for not being RAM. */
function layoutOf(registers: QueueRegisters): {
  size: number;
  descAddr: number;
  availAddr: number;
  usedAddr: number;
} {
  return {
    size: registers.size,
    descAddr: registers.descHigh * 0x1_0000_0000 + registers.descLow,
    availAddr: registers.availHigh * 0x1_0000_0000 + registers.availLow,
    usedAddr: registers.usedHigh * 0x1_0000_0000 + registers.usedLow,
  };
}

function isRegisterAccess(offset: number, length: number): boolean {
  return length === 4 && offset % 4 === 0;
}
