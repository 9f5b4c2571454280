/** Core of a machine: its vCPUs, which run, pause and stand still together, and its saved state. */
import type { BalloonControl } from '../devices/backends/balloon.js';
import type { NetControl } from '../devices/backends/net.js';
import type { Blk } from '../devices/blk/blk.js';
import { TsvmError } from '../errors.js';
import type { MachineChannel } from '../guest/channel.js';
import type { GuestFacts } from '../guest/facts.js';
import type { StopPort } from '../guest/stop-port.js';
import type { MachineHost } from '../host/host.js';
import type { ExitAssist, HostProfile } from '../kvm/profiles/profile.js';
import type { Vm } from '../kvm/vm.js';
import { announceStandstill, restoreVmState, saveVmState, type VmState } from '../kvm/vm-state.js';
import type { GuestMemory } from '../memory/guest-memory.js';
import type { NativeAddon, NativeKvm, NativeVcpu } from '../native/binding.js';
import type { SavedState } from '../snapshot/format.js';
import { untilAborted } from '../util/abort.js';
import type { MachineConfig } from './config.js';
import type { Lifecycle } from './lifecycle.js';
import type { MachineState } from './machine.js';
import type { Platform } from './platform.js';
import type { PmemSlots } from './pmem-slots.js';
import { emptyStore, type PreparedVm } from './prepared-vm.js';
import { Meter } from './report/meter.js';
import { type FatalExit, VcpuRunner } from './vcpu-runner.js';

/** Parts of a machine. */
export interface Parts {
  readonly addon: NativeAddon;
  readonly kvm: NativeKvm;
  readonly vm: Vm;
  readonly profile: HostProfile;
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
  /** Snapshot that the machine was restored from, whose memory file lies under its memory. */
  readonly origin?: { readonly directory: string; readonly checksum: string };
}

/** State of a machine that stands still, but for its memory and disks. */
export interface CoreState extends Omit<SavedState, 'vm'> {
  readonly vm: VmState;
}

export class MachineCore {
  readonly lifecycle: Lifecycle;
  readonly parts: Parts;
  readonly meter: Meter;
  /** Virtual machines for forks to come. */
  readonly prepared: PreparedVm[] = [];
  /** Configuration of the machine as it is now: a disk may have been changed. */
  config: MachineConfig;
  readonly #assist: ExitAssist | undefined;
  readonly #runners: readonly VcpuRunner[];
  #resumeWanted: symbol | undefined;
  #isStill = false;
  /** Settles when nothing stands still any more for a fork or snapshot. */
  #still: Promise<unknown> = Promise.resolve();

  constructor(lifecycle: Lifecycle, config: MachineConfig, parts: Parts) {
    this.lifecycle = lifecycle;
    this.config = config;
    this.parts = parts;
    const { vm, memory, platform, profile, channel } = parts;
    const assist = profile.createAssist?.(vm.vcpus, memory);
    this.#assist = assist;
    this.#runners = vm.vcpus.map(
      (vcpu) =>
        new VcpuRunner({
          vcpu,
          ports: platform.ports,
          memory: platform.mmio,
          assist,
          guard: lifecycle.guard,
          onFatal: (which, fatal) => this.#fatal(which, fatal),
        }),
    );
    this.meter = new Meter({
      profile: profile.name,
      timeline: lifecycle.timeline,
      vcpus: vm.vcpus,
      slots: platform.slots,
      assistedExits: () => this.#runners.reduce((sum, { assistedExits }) => sum + assistedExits, 0),
    });
    lifecycle.cleanup.defer(() => emptyStore(this.prepared));
    lifecycle.cleanup.defer(() => this.#still);
    lifecycle.onFinish(() => {
      for (const runner of this.#runners) runner.stop();
      this.meter.finish();
      channel?.onEnd();
    });
  }

  async start(): Promise<void> {
    this.#begin();
    this.lifecycle.timeline.mark('start');
    if (this.#isStill) await this.#still;
    this.#run();
  }

  /** `start` for many: the first that ran would take the CPUs on which the others are made ready. */
  static startTogether(cores: readonly MachineCore[]): void {
    for (const core of cores) {
      core.#begin();
      core.#resumeDevices();
    }
    for (const core of cores) {
      core.lifecycle.timeline.mark('start');
      core.#enter();
    }
  }

  #begin(): void {
    this.refuseUnless(['ready'], 'start');
    this.lifecycle.state = 'running';
    this.parts.channel?.onStart();
  }

  #run(): void {
    if (this.lifecycle.isOver || this.lifecycle.state !== 'running') return;
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

  /** Resolves when every vCPU has come to rest. */
  async #park(): Promise<void> {
    await Promise.all(this.#runners.map((runner) => runner.pause()));
  }

  async pause(): Promise<void> {
    this.#resumeWanted = undefined;
    if (this.lifecycle.state !== 'paused') {
      this.refuseUnless(['running'], 'pause');
      this.lifecycle.state = 'paused';
    }
    await this.#park();
  }

  async resume(): Promise<void> {
    this.refuseUnless(['paused'], 'resume');
    const wish = Symbol();
    this.#resumeWanted = wish;
    // Before one vCPU goes on all must rest, or `pause` would be told of a machine that runs.
    await this.#park();
    if (this.#isStill) await this.#still;
    // Of a `pause` and a `resume` that overlap, the later one counts.
    if (this.#resumeWanted !== wish || this.lifecycle.isOver) return;
    announceStandstill(this.parts.vm);
    this.lifecycle.state = 'running';
    this.#run();
  }

  /**
   * Runs `action` while no vCPU runs and no device touches memory or disks, and then lets go on what went on before. One
   * at a time; what the machine is for others (`state`) does not change.
   *
   * @param signal - ends the wait for its turn; from then on `action` sees to it
   */
  async still<T>(what: string, action: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#still;
    const mine = (async () => {
      await untilAborted(signal, () => before);
      if (this.lifecycle.isOver) throw stateError(what, 'ended');
      this.#isStill = true;
      try {
        await this.#park();
        await this.parts.platform.pause();
        if (this.lifecycle.isOver) throw stateError(what, 'ended');
        return await action();
      } finally {
        this.#isStill = false;
        this.#run();
      }
    })();
    // The next has to wait for those before, too, if this one gave its turn up.
    this.#still = Promise.allSettled([before, mine]);
    return await mine;
  }

  /** Saves the state, only within `still`. */
  save(msrIndices: Uint32Array): CoreState {
    const { vm, platform, channel } = this.parts;
    return {
      vm: saveVmState(vm, msrIndices),
      platform: platform.save(),
      typed: Buffer.from(this.lifecycle.terminal.pending).toString('base64'),
      ...(channel && { channel: channel.save() }),
    };
  }

  /** Takes over a state, only with memory in place, before the start. */
  restore(state: CoreState, facts: GuestFacts = {}): void {
    const { vm, platform, channel } = this.parts;
    restoreVmState(vm, state.vm);
    platform.restore(state.platform, facts.fresh);
    announceStandstill(vm);
    this.lifecycle.terminal.write(Buffer.from(state.typed, 'base64'));
    channel?.restore(state.channel, facts);
    for (const vcpu of vm.vcpus) this.#assist?.resume?.(vcpu);
    this.lifecycle.timeline.mark('restored');
  }

  #fatal(vcpu: NativeVcpu, fatal: FatalExit): void {
    const { vm, pmem } = this.parts;
    pmem.probe();
    if (!vm.ram.hasFiles) {
      this.#crash(vcpu, fatal);
      return;
    }
    // A guest that loses memory crashes of it, and KVM sees the loss as an address that is not there.
    vm.ram.probeFiles();
    setImmediate(() => setImmediate(() => this.#crash(vcpu, fatal)));
  }

  #crash(vcpu: NativeVcpu, fatal: FatalExit): void {
    const { lifecycle, parts } = this;
    if (!lifecycle.isOver) lifecycle.finish(lifecycle.ends.fatal(vcpu, fatal, parts.memory));
  }

  /** @throws TsvmError `TSVM_STATE` */
  refuseUnless(states: readonly MachineState[], action: string): void {
    const { isOver, state } = this.lifecycle;
    if (isOver || !states.includes(state)) throw stateError(action, isOver ? 'ended' : state);
  }
}

function stateError(action: string, state: MachineState): TsvmError {
  return new TsvmError('TSVM_STATE', `cannot ${action} a machine that is ${state}`);
}
