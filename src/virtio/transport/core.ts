/**
 * A virtio device as every transport has it: negotiation, status, queues, reset, pause and saved state.
 *
 * The core knows no register and no interrupt line. A transport translates what its driver says into calls of the core, and does four
 * things for it: {@link TransportFace}. Addresses are whole, features come by words, and queues start and stop one by one, before
 * DRIVER_OK or after: so mmio.ts needs no other core than a transport over PCI or vhost-user does.
 *
 * @spec virtio-1.3 2.1    Device status field  #yes
 * @spec virtio-1.3 2.4    Device reset         #yes
 * @spec virtio-1.3 2.6.1  Virtqueue reset      #no   VIRTIO_F_RING_RESET is not offered
 * @spec virtio-1.3 3.1.1  Initialization       #yes
 */
import assert from 'node:assert';
import { GuestError } from '../../errors.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import { checkState, checkStateVersion, type VersionedState } from '../../util/state.js';
import type { DeviceState, VirtioContext, VirtioDevice } from '../device.js';
import { featureWord, refuseFeatures, TRANSPORT_FEATURES, withFeatureWord } from '../features.js';
import type { QueueCounters } from '../queue.js';
import type { QueueLayout, QueuePosition } from '../queue-layout.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  writeStatus,
} from '../status.js';
import { QueueSet, type SavedQueue } from './queue-set.js';

/** Services of a transport for its core. */
export interface TransportFace {
  /** Shows the driver the device status. 0: a reset is over, and all else that the driver wrote is forgotten too. */
  showStatus(status: number): void;
  /** Shows the driver the configuration's generation (virtio 1.3, 2.5.1). */
  showGeneration(generation: number): void;
  /** Interrupts the driver: buffers of this queue were used. */
  interruptQueue(index: number): void;
  /** Interrupts the driver: the configuration changed, or the device needs a reset. */
  interruptConfig(): void;
}

/** Events of the core, for the machine. */
export interface TransportEvents {
  /** The device can no longer work: DEVICE_NEEDS_RESET was set, and was not before. */
  needsReset?(device: string, reason: string): void;
  /** Something threw in the device that is no GuestError. Default: it is thrown on. */
  fault?(device: string, error: unknown): void;
}

export interface VirtioCoreOptions {
  readonly device: VirtioDevice;
  readonly memory: GuestMemory;
  readonly events?: TransportEvents;
  /** Runs a task soon, but after whatever else is waiting. Default: setImmediate. */
  readonly defer?: (task: () => void) => void;
}

export interface TransportCounters {
  /** Times that DEVICE_NEEDS_RESET was set or would have been. */
  needsReset: number;
  /** Writes by the driver that came at the wrong time, or with the wrong width, and were dropped. */
  refusedWrites: number;
  readonly queues: readonly QueueCounters[];
}

/** Saved state of a {@link VirtioCore} and its device. A transport adds its own. */
export interface VirtioCoreState extends VersionedState {
  readonly deviceId: number;
  readonly status: number;
  /** Hexadecimal, as JSON has no bigint. */
  readonly driverFeatures: string;
  readonly configGeneration: number;
  readonly queues: readonly SavedQueue[];
  readonly device: DeviceState;
}

const STATE_VERSION = 2;

export class VirtioCore {
  readonly device: VirtioDevice;
  readonly counters: TransportCounters;
  readonly #memory: GuestMemory;
  readonly #face: TransportFace;
  readonly #events: TransportEvents;
  readonly #defer: (task: () => void) => void;
  readonly #offered: bigint;
  readonly #queues: QueueSet;
  readonly #deferred: boolean[];
  /** Context of the device, from DRIVER_OK to reset. Work that was begun with another is void. */
  #context: VirtioContext | undefined;
  #status = 0;
  #generation = 0;
  #driverFeatures = 0n;
  /** The driver set bits in feature words that do not exist. */
  #driverFeaturesBeyond = false;
  #resetting: Promise<void> | undefined;

  constructor(face: TransportFace, options: VirtioCoreOptions) {
    const { device, memory } = options;
    this.device = device;
    this.#memory = memory;
    this.#face = face;
    this.#events = options.events ?? {};
    this.#defer = options.defer ?? ((task) => void setImmediate(task));
    this.#offered = device.features | TRANSPORT_FEATURES;
    this.#queues = new QueueSet(device, memory, {
      interrupt: (index) => face.interruptQueue(index),
      broken: (reason) => this.needsReset(reason),
      yielded: (index) => this.#notifyLater(index),
    });
    this.#deferred = device.queueSizes.map(() => false);
    this.counters = { needsReset: 0, refusedWrites: 0, queues: this.#queues.counters };
  }

  // Features and status

  /** Word `index` of the features that the driver may accept. */
  offeredWord(index: number): number {
    return featureWord(this.#offered, index);
  }

  /** The driver accepts word `index` of the features. */
  setFeatureWord(index: number, word: number): void {
    // virtio 1.3, 3.1.1: the driver must not accept new features after FEATURES_OK.
    if ((this.#status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) this.counters.refusedWrites++;
    else if (index === 0 || index === 1)
      this.#driverFeatures = withFeatureWord(this.#driverFeatures, index, word);
    else if (word !== 0) this.#driverFeaturesBeyond = true;
  }

  /** The driver writes the device status. A promise, if it is a reset that takes its time. */
  writeStatus(value: number): void | Promise<void> {
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
    this.#setStatus(after);
    if ((after & VIRTIO_CONFIG_S_FAILED) !== 0) this.#queues.kill();
    else if ((after & ~before & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#activate();
  }

  #setStatus(status: number): void {
    this.#status = status;
    this.#face.showStatus(status);
  }

  #activate(): void {
    const features = this.#driverFeatures;
    this.#queues.open(features);
    const context: VirtioContext = {
      memory: this.#memory,
      queues: this.#queues.live,
      features,
      configChanged: () => {
        if (this.#context === context) this.#guarded(() => this.#configChanged(), context);
      },
      needsReset: (reason) => {
        if (this.#context === context) this.needsReset(reason);
      },
      enter: (call) => {
        this.#guarded(call, context);
      },
    };
    this.#context = context;
    this.#guarded(() => this.device.activate(context));
  }

  // Queues

  /** True while a driver may not set queues up, where its transport has that rule: under a live device, and during a reset. */
  get queuesLocked(): boolean {
    return (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 || this.#resetting !== undefined;
  }

  isReady(index: number): boolean {
    return this.#queues.isReady(index);
  }

  /** Makes a queue ready that is not; from DRIVER_OK on it works, and is looked at, at once. Returns why it cannot. */
  startQueue(index: number, layout: QueueLayout, position?: QueuePosition): string | undefined {
    const problem = this.#queues.start(index, layout, position);
    if (problem === undefined) this.#notify(index);
    return problem;
  }

  /** Ends a queue that is ready; returns where it stood. Of one that works nothing may be in flight: `pause` sees to that. */
  stopQueue(index: number): QueuePosition {
    return this.#queues.stop(index);
  }

  /** The driver made buffers available on a queue, or says so. */
  notify(index: number): void {
    if (this.#queues.live[index] === undefined) return; // unknown, not ready, or before DRIVER_OK
    (this.counters.queues[index] as QueueCounters).kicks++;
    this.#notify(index);
  }

  #notify(index: number): void {
    const queue = this.#queues.live[index];
    if (queue === undefined || queue.held) return;
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

  // Configuration space

  /** Reads in any width; what lies beyond the device's configuration reads 0. */
  readConfig(offset: number, data: Uint8Array): void {
    const bytes = this.device.config?.bytes;
    for (let i = 0; i < data.length; i++) data[i] = bytes?.[offset + i] ?? 0;
  }

  writeConfig(offset: number, data: Uint8Array): void {
    const { config } = this.device;
    if (config?.write === undefined || offset + data.length > config.bytes.length)
      this.counters.refusedWrites++;
    else this.#guarded(() => config.write?.(offset, data));
  }

  #configChanged(): void {
    // virtio 1.3, 2.5.1 and 4.2.2.1 MUST: the generation changes if the configuration changed since it was last read.
    this.#setGeneration(this.#generation + 1);
    this.#face.interruptConfig();
  }

  #setGeneration(generation: number): void {
    this.#generation = generation >>> 0;
    this.#face.showGeneration(this.#generation);
  }

  // Errors and reset

  /** Boundary for what a device throws: a GuestError of before a reset is forgotten with all else. */
  #guarded(call: () => void, context = this.#context): void {
    try {
      call();
    } catch (error) {
      if (error instanceof GuestError) {
        if (this.#context === context) this.needsReset(error.message);
      } else if (this.#events.fault === undefined) throw error;
      else this.#events.fault(this.device.name, error);
    }
  }

  /** The driver did what the device cannot go on after: one count, and one event until the reset. */
  needsReset(reason: string): void {
    this.counters.needsReset++;
    const status = this.#status;
    if ((status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) return;
    this.#setStatus(status | VIRTIO_CONFIG_S_NEEDS_RESET);
    this.#queues.kill();
    // virtio 1.3, 2.1.2 MUST: if DRIVER_OK is set, tell the driver by a configuration change notification.
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#face.interruptConfig();
    this.#events.needsReset?.(this.device.name, reason);
  }

  /**
   * Status reads nonzero until the device has let go of guest memory, which is how the driver knows (virtio 1.3, 2.4.1
   * MUST); the vCPU that asked waits with the promise.
   */
  #reset(): void | Promise<void> {
    if (this.#resetting !== undefined) return this.#resetting;
    this.#context = undefined;
    this.#queues.kill();
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
    this.#driverFeatures = 0n;
    this.#driverFeaturesBeyond = false;
    this.#queues.clear();
    this.#setStatus(0);
  }

  // Life

  /** Stops taking requests and waits until none is in flight. The vCPUs stand still, or may go on kicking. */
  async pause(): Promise<void> {
    this.#queues.hold();
    try {
      await this.#resetting;
    } finally {
      await this.device.drain?.();
    }
  }

  /** Goes on after `pause` or `restore`; looks at every queue, since kicks may have been missed. */
  resume(): void {
    this.#queues.release();
    this.device.resume?.();
    for (const index of this.device.queueSizes.keys()) this.#notify(index);
  }

  /** The state of core and device. Only while paused. */
  save(): VirtioCoreState {
    assert(this.#queues.held, `${this.device.name}: saved while it runs`);
    return {
      version: STATE_VERSION,
      deviceId: this.device.deviceId,
      status: this.#status,
      driverFeatures: this.#driverFeatures.toString(16),
      configGeneration: this.#generation,
      queues: this.#queues.save(),
      device: this.device.save(),
    };
  }

  /** Takes over saved state, into a new core. It stays paused until `resume`. Guest memory must be in place. */
  restore(state: VirtioCoreState): void {
    const { name } = this.device;
    checkStateVersion(name, state, STATE_VERSION);
    checkState(state.deviceId === this.device.deviceId, `${name}: it is of device type ${state.deviceId}`);
    checkState(
      state.queues.length === this.device.queueSizes.length,
      `${name}: it has ${state.queues.length} queues`,
    );
    checkState(/^[0-9a-f]{1,16}$/.test(state.driverFeatures), `${name}: features`);
    this.#queues.hold();
    this.#driverFeatures = BigInt(`0x${state.driverFeatures}`);
    // DRIVER_OK without FEATURES_OK is no status that a driver can bring about.
    const negotiated = (state.status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)) !== 0;
    const problem = negotiated ? refuseFeatures(this.#offered, this.#driverFeatures) : undefined;
    checkState(problem === undefined, `${name}: ${problem}`);
    // As if the guest had written it: saved state is no more trusted than a driver.
    state.queues.forEach(({ size, descAddr, availAddr, usedAddr, ready, position }, index) => {
      if (!ready) return;
      const layout = { size, descAddr, availAddr, usedAddr };
      const refused = this.startQueue(index, layout, position ?? undefined);
      checkState(refused === undefined, `${name}: ${refused}`);
    });
    this.#setStatus(state.status & 0xff);
    this.#setGeneration(state.configGeneration);
    this.device.restore(state.device);
    const dead = VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;
    if ((this.#status & (VIRTIO_CONFIG_S_DRIVER_OK | dead)) === VIRTIO_CONFIG_S_DRIVER_OK) this.#activate();
  }
}
