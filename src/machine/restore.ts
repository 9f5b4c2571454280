/** Restores: a machine that goes on where a saved one stood. */
import type { BusDevice } from '../bus/bus-device.js';
import type { DeviceRequest } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import type { GuestFacts } from '../guest/facts.js';
import { checkDiskFacts } from '../host/disk/facts.js';
import { type CpuFacts, hostMemory, readCpu } from '../host/facts.js';
import { createHost } from '../host/host.js';
import type { HostProfile } from '../kvm/profiles/profile.js';
import type { RamBase } from '../kvm/ram.js';
import { decodeVmState } from '../kvm/vm-state.js';
import { ramRanges } from '../memory/layout.js';
import { loadAddon } from '../native/binding.js';
import { type OpenedSnapshot, openSnapshot, refused } from '../snapshot/reader.js';
import { type Abortable, untilAborted } from '../util/abort.js';
import { assemble, chooseProfile } from './assemble.js';
import {
  type BindingOptions,
  bindDevices,
  bindSame,
  type HostWish,
  type SavedDevices,
  unboundWishes,
} from './bindings.js';
import { lookAtDevices } from './check.js';
import { checkBounds, type MachineConfig } from './config.js';
import { type CoreState, MachineCore } from './core.js';
import { KvmMachine } from './kvm-machine.js';
import { Lifecycle } from './lifecycle.js';
import type { Machine, MachinePart, MachineWith } from './machine.js';
import type { Platform } from './platform.js';
import { emptyStore, fillStore, type PreparedVm, prepareVm, takeVm, type VmShape } from './prepared-vm.js';
import { startedTimeline } from './report/timeline.js';
import { configOf, loadedSpec, type MachineSpec, parseSpec } from './spec.js';

export interface RestoreOptions<Parts extends readonly MachinePart[] = readonly MachinePart[]>
  extends BindingOptions,
    Abortable {
  /** Parts that the saved machine must have, or it is refused: `['channel']`. They are there in the type of the machine then. */
  readonly requires?: Parts;
  /**
   * `overlay` (default): disks are only read, and what the guest writes is kept in memory and thrown away, so that the
   * snapshot can be restored again. `direct`: it writes to the disks themselves; the snapshot cannot be restored after that.
   */
  readonly disks?: 'overlay' | 'direct';
  /**
   * Facts for the machine's guest: what it learns of the world when it starts, or with its command, if it has the channel. Default: new
   * entropy, and the time. With `fresh: false`, the VM generation ID stays as well, of any guest.
   */
  readonly facts?: GuestFacts;
}

/**
 * Makes the machine that was saved in `directory`; it goes on when it is started.
 *
 * Its memory is the snapshot's file, mapped: it comes as the guest touches it, and is shared with other machines of the
 * same snapshot until they write. The file may be deleted or replaced meanwhile, but not truncated.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` if it is damaged or does not fit this host; `TSVM_DISK` if a disk has changed since; `TSVM_BINDING`
 * if it asks for something of the host that `options` do not name.
 *
 * @example
 * ```ts
 * import { blk, restoreMachine } from 'tsvm';
 *
 * const devices = [blk({ path: 'root.img' })];
 * await using machine = await restoreMachine('warm', { devices, requires: ['channel'] });
 * machine.channel.send({ argv: ['sort'] });
 * await machine.start();
 * ```
 */
export async function restoreMachine<const Parts extends readonly MachinePart[] = readonly MachinePart[]>(
  directory: string,
  options: RestoreOptions<Parts> = {},
): Promise<MachineWith<Parts>> {
  const timeline = startedTimeline();
  await using saved = await open(directory, options.signal);
  timeline.mark('snapshot-read');
  return await saved.restore(options, timeline);
}

/**
 * Restores a machine that was saved with the devices of `requests`, which are the operator's: what the snapshot says of the host is
 * compared with them, and not used.
 *
 * @throws TsvmError as {@link restoreMachine}; `TSVM_SNAPSHOT` if it was saved with others.
 */
export async function restoreSame(
  directory: string,
  requests: readonly DeviceRequest[],
  options: RestoreOptions = {},
): Promise<Machine> {
  const timeline = startedTimeline();
  await using saved = await open(directory, options.signal);
  timeline.mark('snapshot-read');
  return await saved.restore(options, timeline, requests);
}

/**
 * Opens a snapshot to restore it many times: it is read and checked once, and virtual machines can be made beforehand.
 *
 * @example
 * ```ts
 * import { openSavedMachine } from 'tsvm';
 *
 * await using saved = await openSavedMachine('warm');
 * await saved.prepare(10);
 * const machine = await saved.restore(); // a millisecond
 * await machine.start();
 * ```
 *
 * @throws TsvmError `TSVM_SNAPSHOT` if it is damaged or does not fit this host.
 */
export async function openSavedMachine(directory: string, { signal }: Abortable = {}): Promise<SavedMachine> {
  return await open(directory, signal);
}

/** A snapshot that is open. Closing it leaves the machines alone that it was restored to. */
export interface SavedMachine extends AsyncDisposable {
  /** Makes virtual machines, a few milliseconds each, until `count` are in store; each restore takes one. An abort leaves those in store that were made. */
  prepare(count: number, options?: Abortable): Promise<void>;
  /** A machine that goes on when it is started: see {@link restoreMachine}. */
  restore<const Parts extends readonly MachinePart[] = readonly MachinePart[]>(
    options?: RestoreOptions<Parts>,
  ): Promise<MachineWith<Parts>>;
  /** Configuration of the machine. What the devices say of the host is what they had when it was saved. */
  readonly config: MachineConfig;
  /**
   * Lists what it asks for of the host that `options` do not bind, and that does not lie in its folder. While there is any, `restore()` refuses.
   *
   * @throws TsvmError `TSVM_BINDING` if `options` name a slot that is not there.
   */
  wishes(options?: RestoreOptions): Promise<readonly HostWish[]>;
  close(): Promise<void>;
}

async function open(directory: string, signal: AbortSignal | undefined): Promise<OpenSavedMachine> {
  const opened = await openSnapshot(directory, signal);
  try {
    return new OpenSavedMachine(opened);
  } catch (error) {
    opened.memory.close();
    throw error;
  }
}

class OpenSavedMachine implements SavedMachine {
  readonly #opened: OpenedSnapshot;
  readonly config: MachineConfig;
  readonly #devices: SavedDevices;
  readonly #profile: HostProfile;
  readonly #shape: VmShape;
  readonly #state: CoreState;
  readonly #memory: SharedBase;
  readonly #store: PreparedVm[] = [];
  #closed = false;

  constructor(opened: OpenedSnapshot) {
    const { snapshot, directory } = opened;
    const { host: savedHost, state, memory } = snapshot;
    this.#opened = opened;
    this.#profile = chooseProfile('auto');
    if (this.#profile.name !== savedHost.profile) {
      throw refused(
        directory,
        `it was saved with host profile ${savedHost.profile}, and this host has ${this.#profile.name}`,
      );
    }
    const problem = refuseCpu(savedHost.cpu, readCpu());
    if (problem !== undefined) throw refused(directory, problem);
    const spec = savedSpec(directory, snapshot.config);
    this.#devices = { folder: directory, from: snapshot.directory, devices: spec.devices };
    this.config = configOf(spec);
    checkBounds(this.config, hostMemory().totalBytes);
    const { memoryBytes, cpus } = spec;
    const ramBytes = ramRanges(memoryBytes).reduce((sum, { length }) => sum + length, 0);
    if (ramBytes !== memory.bytes)
      throw refused(directory, `it has ${memory.bytes} bytes of memory, not ${ramBytes}`);
    const vm = decodeVmState(state.vm, cpus);
    this.#state = { ...state, vm };
    this.#shape = { addon: loadAddon(), memoryBytes, cpus, cpuid: vm.vcpus.map(({ cpuid }) => cpuid) };
    this.#memory = new SharedBase(opened.memory);
  }

  async prepare(count: number, { signal }: Abortable = {}): Promise<void> {
    await fillStore(this.#store, count, () => this.#prepare(), signal);
  }

  /** With the memory in place: a base of files does not change. */
  #prepare(): PreparedVm {
    this.#refuseClosed();
    const prepared = prepareVm(this.#shape);
    try {
      prepared.vm.ram.own(this.#memory.share());
    } catch (error) {
      emptyStore([prepared]);
      throw error;
    }
    return prepared;
  }

  async wishes(options: RestoreOptions = {}): Promise<readonly HostWish[]> {
    return await untilAborted(options.signal, () => unboundWishes(this.#devices, options));
  }

  async restore<const Parts extends readonly MachinePart[] = readonly MachinePart[]>(
    options: RestoreOptions<Parts> = {},
    timeline = startedTimeline(),
    requests?: readonly DeviceRequest[],
  ): Promise<MachineWith<Parts>> {
    options.signal?.throwIfAborted();
    this.#refuseClosed();
    for (const part of options.requires ?? []) this.#refuseWithout(part);
    const devices =
      requests === undefined
        ? await bindDevices(this.#devices, options)
        : await bindSame(this.#devices, requests, options);
    const lifecycle = new Lifecycle(timeline);
    try {
      const machine = await this.#restore(lifecycle, { ...this.config, devices }, options);
      return machine as MachineWith<Parts>;
    } catch (error) {
      await lifecycle.cleanup.run();
      throw error;
    }
  }

  async #restore(
    lifecycle: Lifecycle,
    config: MachineConfig,
    { disks, facts, signal }: RestoreOptions,
  ): Promise<Machine> {
    const { snapshot, directory, checksum } = this.#opened;
    const { addon } = this.#shape;
    // Where there is a VM in store, KVM is known to be there, and what is wrong with a file is said when it is opened.
    if (this.#store.length === 0) await lookAtDevices(config.devices);
    signal?.throwIfAborted();
    const { kvm, vm } = takeVm(this.#store, () => this.#prepare(), lifecycle);
    const host = createHost(addon, lifecycle.terminal, { disks: disks ?? 'overlay' });
    const parts = await assemble(lifecycle, config, { addon, kvm, vm, profile: this.#profile, host }, signal);
    watchMemory(parts.platform, this.#shape.memoryBytes, () => lifecycle.memoryLost());
    checkDiskFacts(snapshot.disks, await host.disks());
    signal?.throwIfAborted();
    const { cmdline } = snapshot;
    const core = new MachineCore(lifecycle, config, { ...parts, cmdline, origin: { directory, checksum } });
    core.restore(this.#state, facts);
    return new KvmMachine(core);
  }

  /** @throws TsvmError `TSVM_SNAPSHOT` */
  #refuseWithout(part: MachinePart): void {
    const { channel, devices = [] } = this.config;
    const has = part === 'channel' ? channel === true : devices.some(({ kind }) => kind === part);
    const hint = 'save a machine that has it, or leave it out of `requires`';
    if (!has) throw refused(this.#opened.directory, `it has no ${part}, which is required`, hint);
  }

  #refuseClosed(): void {
    if (this.#closed)
      throw new TsvmError('TSVM_STATE', `the saved machine ${this.#opened.directory} has been closed`);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    emptyStore(this.#store);
    this.#memory.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A base of several machines: closed with the last of them, and of whoever hands it out. */
class SharedBase {
  readonly #base: RamBase;
  #users = 1;

  constructor(base: RamBase) {
    this.#base = base;
  }

  share(): RamBase {
    this.#users++;
    let open = true;
    return {
      mapInto: (ram) => this.#base.mapInto(ram),
      close: () => {
        if (open) this.close();
        open = false;
      },
    };
  }

  close(): void {
    if (--this.#users === 0) this.#base.close();
  }
}

/** KVM asks the monitor for memory that was truncated, as for a device's: without this, the guest would run on without it. */
function watchMemory(platform: Platform, memoryBytes: number, onLost: () => void): void {
  const lost: BusDevice = { name: 'lost memory', read: onLost, write: onLost };
  for (const { addr, length } of ramRanges(memoryBytes)) platform.mmio.attach(addr, length, lost);
}

/** Spec that a snapshot has, which is not trusted. @throws TsvmError that names the folder and the field. */
function savedSpec(directory: string, data: unknown): MachineSpec {
  try {
    return loadedSpec(parseSpec(data));
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    const { message, hint } = refused(directory, error.message);
    throw new TsvmError(error.code, message, { hint, cause: error });
  }
}

/** Why a guest that ran on `saved` cannot go on on `here`: it has looked once at what the CPU can do. */
function refuseCpu(saved: CpuFacts, here: CpuFacts): string | undefined {
  const same = (['vendor', 'family', 'model'] as const).every((field) => saved[field] === here[field]);
  if (!same) return `it was saved on another CPU (${saved.name}), and this is ${here.name}`;
  const flags = new Set(here.flags.split(' '));
  const missing = saved.flags.split(' ').filter((flag) => !flags.has(flag));
  return missing.length === 0 ? undefined : `this CPU lacks ${missing.join(', ')}`;
}
