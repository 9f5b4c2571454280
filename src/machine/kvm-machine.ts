/** One machine on KVM: its vCPUs' comings and goings, its events, its end. */
import assert from 'node:assert';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BalloonControl, NetControl } from '../devices/host.js';
import type { Blk } from '../devices/virtio/blk.js';
import { TsvmError } from '../errors.js';
import type { MachineHost } from '../host/host.js';
import type { MachineVsock } from '../host/vsock-endpoint.js';
import type { ExitAssist, HostProfile } from '../kvm/profiles/profile.js';
import type { Vm } from '../kvm/vm.js';
import {
  announceStandstill,
  type DecodedVmState,
  decodeVmState,
  restoreVmState,
  saveVmState,
} from '../kvm/vm-state.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import type { NativeAddon, NativeKvm, NativeVcpu } from '../native/binding.js';
import type { SavedState, SnapshotOptions, SnapshotResult } from '../snapshot/format.js';
import type { Cleanup } from '../util/cleanup.js';
import { Guard } from '../util/guard.js';
import type { MachineChannel } from './channel.js';
import type { MachineConfig } from './config.js';
import { changeDisk } from './disk-change.js';
import { Events } from './events.js';
import { guardedVsock } from './guarded-vsock.js';
import { bugEnd, GuestEnds } from './guest-ends.js';
import type { Machine, MachineEnd, MachineEvents, MachineState, MachineTimeline } from './machine.js';
import { deviceMetrics, exitMetrics, kvmStats, type MachineMetrics, vcpuMetrics } from './metrics.js';
import type { Platform } from './platform.js';
import type { PmemSlots } from './pmem-slots.js';
import { emptyStore, type PreparedVm } from './prepared-vm.js';
import type { StopPort } from './stop-port.js';
import { type MachineConsole, Terminal } from './terminal.js';
import { nowMs, type Timeline } from './timeline.js';
import { type FatalExit, VcpuRunner } from './vcpu-runner.js';

/** What a machine with a fault gets to let go of what it holds, before its end is told. */
const BUG_RELEASE_MS = 10_000;

type Metrics = Pick<MachineTimeline, 'exits' | 'insnEmulation' | 'kvmStats'>;

/** What a machine runs on, once it is all there. */
export interface Parts {
  readonly config: MachineConfig;
  readonly addon: NativeAddon;
  readonly kvm: NativeKvm;
  readonly vm: Vm;
  readonly memory: GuestMemory;
  readonly platform: Platform;
  readonly channel: MachineChannel | undefined;
  readonly stopPort: StopPort | undefined;
  readonly balloon: BalloonControl | undefined;
  readonly disks: readonly Blk[];
  readonly cards: readonly NetControl[];
  readonly pmem: PmemSlots;
  readonly host: MachineHost;
  readonly cmdline: string;
  /** The snapshot that it was restored from, whose memory file lies under its memory. */
  readonly origin?: { readonly directory: string; readonly checksum: string };
}

/** What a machine can do that makes other machines, which it cannot know. */
export interface Reproduction {
  fork(parent: KvmMachine, count: number): Promise<KvmMachine[]>;
  prepareForks(parent: KvmMachine, count: number): Promise<void>;
  snapshot(machine: KvmMachine, directory: string, options: SnapshotOptions): Promise<SnapshotResult>;
}

export class KvmMachine implements Machine {
  readonly hostProfile: HostProfile;
  readonly cleanup: Cleanup;
  readonly #timeline: Timeline;
  readonly reproduction: Reproduction;
  /** For forks to come. */
  readonly prepared: PreparedVm[] = [];
  /** What calls in from outside calls within it. */
  readonly guard = new Guard((where, error) => this.#fault(where, error));
  readonly terminal = new Terminal((bytes) => this.#onConsole(bytes), this.guard);
  readonly #events = new Events<MachineEvents>(this.guard);
  readonly #ends = new GuestEnds();
  readonly #ended: Promise<MachineEnd>;
  #resolveEnded: (end: MachineEnd) => void = () => {};
  #parts: Parts | undefined;
  #state: MachineState = 'ready';
  #resumeWanted: symbol | undefined;
  #runners: VcpuRunner[] = [];
  #assist: ExitAssist | undefined;
  #isStill = false;
  /** Settles when nothing stands still any more for a fork or snapshot. */
  #still: Promise<unknown> = Promise.resolve();
  #end: MachineEnd | undefined;
  #finalMetrics: Metrics | undefined;

  constructor(options: {
    readonly profile: HostProfile;
    readonly timeline: Timeline;
    readonly cleanup: Cleanup;
    readonly reproduction: Reproduction;
  }) {
    this.hostProfile = options.profile;
    this.#timeline = options.timeline;
    this.cleanup = options.cleanup;
    this.cleanup.defer(() => emptyStore(this.prepared));
    this.reproduction = options.reproduction;
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** What the platform's devices tell the machine. */
  get platformEvents() {
    return {
      onMark: (code: number) => this.#mark(code),
      onExitStatus: (status: number) => {
        this.#ends.exitStatus = status;
        this.channel?.onExitStatus(status);
      },
      onPowerOff: () => this.#finish(this.#ends.powerOff()),
      onReset: () => this.#finish(this.#ends.reset()),
      onDeviceError: (device: string, reason: string) => this.#events.emit('deviceError', { device, reason }),
      onDeviceFault: (device: string, error: unknown) => this.#fault(`the device ${device}`, error),
    };
  }

  attach(parts: Parts): void {
    this.#parts = parts;
    const { vm, memory, platform } = parts;
    const assist = this.hostProfile.createAssist?.(vm.vcpus, memory);
    this.#assist = assist;
    this.#runners = vm.vcpus.map(
      (vcpu) =>
        new VcpuRunner({
          vcpu,
          ports: platform.ports,
          memory: platform.mmio,
          assist,
          guard: this.guard,
          onFatal: (which, fatal) => this.#fatal(which, fatal),
        }),
    );
  }

  get config(): MachineConfig {
    return this.parts.config;
  }

  get parts(): Parts {
    assert(this.#parts !== undefined, 'a machine without its parts');
    return this.#parts;
  }

  get #vcpus(): readonly NativeVcpu[] {
    return this.#parts?.vm.vcpus ?? [];
  }

  #onConsole(bytes: Uint8Array): void {
    this.#ends.printed(bytes);
    this.#events.emit('console', bytes.slice());
  }

  get state(): MachineState {
    return this.#state;
  }

  get profile(): string {
    return this.hostProfile.name;
  }

  get cmdline(): string {
    return this.#parts?.cmdline ?? '';
  }

  get console(): MachineConsole {
    return this.terminal;
  }

  get channel(): MachineChannel | undefined {
    return this.#parts?.channel;
  }

  get disks(): readonly Blk[] {
    return this.#parts?.disks ?? [];
  }

  get cards(): readonly NetControl[] {
    return this.#parts?.cards ?? [];
  }

  async changeDisk(index: number, path: string): Promise<void> {
    const what = 'change a disk of';
    this.refuseUnless(['ready', 'running', 'paused'], what);
    await this.still(what, async () => {
      this.#parts = { ...this.parts, config: await changeDisk(this.parts, index, path) };
    });
  }

  get balloon(): BalloonControl | undefined {
    return this.#parts?.balloon;
  }

  get vsock(): MachineVsock | undefined {
    const sockets = this.#parts?.host.vsock();
    return sockets && guardedVsock(sockets, this.guard);
  }

  on<Name extends keyof MachineEvents>(
    name: Name,
    listener: (payload: MachineEvents[Name]) => void,
  ): Disposable {
    return this.#events.on(name, listener);
  }

  async start(): Promise<void> {
    this.#require('ready', 'start');
    this.#timeline.mark('start');
    this.#setState('running');
    this.channel?.onStart();
    if (this.#isStill) await this.#still;
    this.#run();
  }

  /** `start` for many: the first that ran would take the CPUs on which the others are made ready. */
  static startTogether(machines: readonly KvmMachine[]): void {
    for (const machine of machines) {
      machine.#require('ready', 'start');
      machine.#setState('running');
      machine.channel?.onStart();
      machine.#resumeDevices();
    }
    for (const machine of machines) {
      machine.#timeline.mark('start');
      machine.#enter();
    }
  }

  #run(): void {
    if (this.#end !== undefined || this.#state !== 'running') return;
    this.#resumeDevices();
    this.#enter();
  }

  #resumeDevices(): void {
    this.parts.vm.ram.touch();
    this.parts.platform.resume();
  }

  #enter(): void {
    for (const runner of this.#runners) runner.run();
  }

  async pause(): Promise<void> {
    this.#resumeWanted = undefined;
    if (this.#state !== 'paused') {
      this.#require('running', 'pause');
      this.#setState('paused');
    }
    await Promise.all(this.#runners.map((runner) => runner.pause()));
  }

  async resume(): Promise<void> {
    this.#require('paused', 'resume');
    const wish = Symbol();
    this.#resumeWanted = wish;
    // Every vCPU must have come to rest before one goes on, or `pause` would be told of a machine that runs.
    await Promise.all(this.#runners.map((runner) => runner.pause()));
    if (this.#isStill) await this.#still;
    // Of a `pause` and a `resume` that overlap, the later one counts.
    if (this.#resumeWanted !== wish || this.#end !== undefined) return;
    announceStandstill(this.parts.vm);
    this.#setState('running');
    this.#run();
  }

  /**
   * Runs `action` while no vCPU runs and no device touches memory or disks, and then lets go on what went on before. One
   * at a time; what the machine is for others (`state`) does not change.
   */
  async still<T>(what: string, action: () => T | Promise<T>): Promise<T> {
    const before = this.#still;
    const mine = (async () => {
      await before.catch(() => {});
      if (this.#end !== undefined) throw stateError(what, 'ended');
      this.#isStill = true;
      try {
        await Promise.all(this.#runners.map((runner) => runner.pause()));
        await this.parts.platform.pause();
        if (this.#end !== undefined) throw stateError(what, 'ended');
        return await action();
      } finally {
        this.#isStill = false;
        this.#run();
      }
    })();
    this.#still = mine.catch(() => {});
    return await mine;
  }

  /** Only within `still`. */
  save(msrIndices: Uint32Array): SavedState {
    const { vm, platform } = this.parts;
    return {
      vm: saveVmState(vm, msrIndices),
      platform: platform.save(),
      typed: Buffer.from(this.terminal.pending).toString('base64'),
      ...(this.channel && { channel: this.channel.save() }),
    };
  }

  /** Into a machine that has all its parts, its memory in place, and has not started. `vmState`: that of `state`, decoded. */
  restore(state: SavedState, vmState: DecodedVmState = decodeVmState(state.vm)): void {
    const { vm, platform } = this.parts;
    restoreVmState(vm, vmState);
    platform.restore(state.platform);
    announceStandstill(vm);
    this.terminal.write(Buffer.from(state.typed, 'base64'));
    this.channel?.restore(state.channel);
    for (const vcpu of vm.vcpus) this.#assist?.resume?.(vcpu);
    this.#timeline.mark('restored');
  }

  async snapshot(directory: string, options: SnapshotOptions = {}): Promise<SnapshotResult> {
    return await this.reproduction.snapshot(this, directory, options);
  }

  async fork(count: number): Promise<Machine[]> {
    return await this.reproduction.fork(this, count);
  }

  async prepareForks(count: number): Promise<void> {
    await this.reproduction.prepareForks(this, count);
  }

  requestStop({ insist = false } = {}): boolean {
    if (this.#state !== 'running' || this.#end !== undefined) return false;
    if (this.#ends.stopRequested && !insist) return true;
    const { channel, stopPort, platform } = this.parts;
    const asked = channel?.requestStop(insist) || stopPort?.request() || platform.pressCtrlAltDel();
    this.#ends.stopRequested ||= asked;
    return asked;
  }

  pressCtrlAltDel(): boolean {
    return this.#state === 'running' && this.parts.platform.pressCtrlAltDel();
  }

  async stop(): Promise<void> {
    this.#finish({ kind: 'stopped' });
    await this.#ended;
  }

  wait(): Promise<MachineEnd> {
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  metrics(): MachineMetrics {
    const { exits, kvmStats: stats } = this.#finalMetrics ?? this.#metrics();
    const devices = deviceMetrics(this.#parts?.platform.slots ?? []);
    const vcpus = vcpuMetrics(this.#vcpus);
    return { exits, ...(stats === undefined ? {} : { kvmStats: stats }), vcpus, devices };
  }

  timeline(): MachineTimeline {
    return {
      profile: this.hostProfile.name,
      phases: this.#timeline.entries,
      ...(this.#finalMetrics ?? this.#metrics()),
    };
  }

  #metrics(): Metrics {
    const assisted = this.#runners.reduce((sum, runner) => sum + runner.assistedExits, 0);
    const stats = kvmStats(this.#vcpus);
    return {
      exits: exitMetrics(this.#vcpus, assisted),
      insnEmulation: stats?.get('insn_emulation'),
      kvmStats: stats && Object.fromEntries([...stats].filter(([, value]) => value !== 0)),
    };
  }

  #insnEmulation(): number | undefined {
    return kvmStats(this.#vcpus)?.get('insn_emulation');
  }

  #mark(code: number): void {
    const name = MARK_NAMES[code] ?? `mark-${code}`;
    this.#timeline.guestMark(code, name, () => this.#insnEmulation());
    this.#events.emit('mark', { code, name, ms: nowMs() });
  }

  #fatal(vcpu: NativeVcpu, fatal: FatalExit): void {
    const { vm, pmem } = this.parts;
    const { ram } = vm;
    pmem.probe();
    if (!ram.hasFiles) {
      this.#crash(vcpu, fatal);
      return;
    }
    // A guest that loses memory crashes of it, and KVM sees the loss as an address that is not there.
    ram.probeFiles();
    setImmediate(() => setImmediate(() => this.#crash(vcpu, fatal)));
  }

  #crash(vcpu: NativeVcpu, fatal: FatalExit): void {
    if (this.#end === undefined) this.#finish(this.#ends.fatal(vcpu, fatal, this.#parts?.memory));
  }

  /** The machine's own fault, or that of a listener. After its end there is nobody to end, only the operator to be told. */
  #fault(where: string, error: unknown): void {
    const end = bugEnd(where, error);
    if (this.#end === undefined) this.#finish(end);
    else {
      const detail = { type: 'TsvmWarning', detail: end.report };
      process.emitWarning(`${end.message}, after the machine's end`, detail);
    }
  }

  /** The first end counts. Called from within an exit, so the release happens in its own turn. */
  #finish(end: MachineEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    for (const runner of this.#runners) runner.stop();
    this.#finalMetrics = this.#metrics();
    this.#timeline.mark('end', this.#finalMetrics.insnEmulation);
    this.channel?.onEnd();
    this.terminal.disconnect();
    setImmediate(() => void this.#releaseAll(end));
  }

  async #releaseAll(end: MachineEnd): Promise<void> {
    let outcome = end;
    await this.#still;
    try {
      const released = this.cleanup.run();
      // A device that is broken may never drain; what it may still touch stays in place then.
      if (end.kind === 'bug')
        await Promise.race([released, sleep(BUG_RELEASE_MS, undefined, { ref: false })]);
      else await released;
    } catch (error) {
      // A disk that cannot be flushed: the guest may believe in data that is not there.
      outcome = {
        kind: 'kvm-error',
        message: error instanceof Error ? error.message : String(error),
        registers: '',
      };
    }
    this.#setState('ended');
    this.#resolveEnded(outcome);
    this.#events.emit('end', outcome);
  }

  #setState(state: MachineState): void {
    this.#state = state;
    this.#events.emit('state', state);
  }

  #require(state: MachineState, action: string): void {
    this.refuseUnless([state], action);
  }

  /** @throws TsvmError `TSVM_STATE` */
  refuseUnless(states: readonly MachineState[], action: string): void {
    if (!states.includes(this.#state) || this.#end !== undefined) {
      throw stateError(action, this.#end === undefined ? this.#state : 'ended');
    }
  }

  /** A file under the guest's memory was truncated. */
  memoryLost(message = "the snapshot's memory file was truncated while the machine ran from it"): void {
    this.#finish({ kind: 'kvm-error', message, registers: '' });
  }
}

function stateError(action: string, state: MachineState): TsvmError {
  return new TsvmError('TSVM_STATE', `cannot ${action} a machine that is ${state}`);
}

const MARK_NAMES: Readonly<Record<number, string>> = { 1: 'init', 2: 'command', 3: 'ready', 4: 'done' };
