/**
 * A virtual machine as an object: made, started, paused, resumed, stopped. No state outside it, so that many live in one
 * process.
 */

import { virtioConsole } from '../devices/virtio/console.js';
import { TsvmError } from '../errors.js';
import { createHost } from '../host/host.js';
import { hostMemory, readHostFacts } from '../host/host-facts.js';
import { openKvm } from '../kvm/kvm.js';
import type { ExitAssist, HostProfile } from '../kvm/profiles/profile.js';
import { detectProfile, hostProfiles } from '../kvm/profiles/registry.js';
import { createVm, type Vm } from '../kvm/vm.js';
import { createGuestMemory, type GuestMemory } from '../memory/guest-memory.js';
import { ramRanges } from '../memory/layout.js';
import { loadAddon, type NativeVcpu } from '../native/binding.js';
import { Cleanup } from '../util/cleanup.js';
import { loadGuest, readBootFiles } from './boot.js';
import { checkConfig, DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import { Events } from './events.js';
import { failureSummary, registerReport } from './failure-report.js';
import { type ExitMetrics, exitMetrics, kvmStats } from './metrics.js';
import { PanicScanner } from './panic-scanner.js';
import { Platform } from './platform.js';
import { type MachineConsole, Terminal } from './terminal.js';
import { Timeline, type TimelineEntry } from './timeline.js';
import { type FatalExit, VcpuRunner } from './vcpu-runner.js';
import { Wiring } from './wiring.js';

/** Why a machine ended. */
export type MachineEnd =
  /** The guest powered off. `exitStatus` is what its init reported of the command, if it did. */
  | { readonly kind: 'power-off'; readonly exitStatus: number | undefined }
  /** The guest asked for a reset, as `reboot` does. */
  | { readonly kind: 'reset'; readonly exitStatus: number | undefined }
  | { readonly kind: 'panic'; readonly message: string }
  | { readonly kind: 'triple-fault' }
  /** The host's KVM could not go on. */
  | { readonly kind: 'kvm-error'; readonly message: string; readonly registers: string }
  /** `stop()` was called. */
  | { readonly kind: 'stopped' };

export type MachineState = 'ready' | 'running' | 'paused' | 'ended';

export interface MachineEvents extends Record<string, unknown> {
  /** Console output. The bytes are the listener's to keep. */
  console: Uint8Array;
  /** The guest wrote a boot mark: `init` (its first instruction), `command` (about to be started), or `mark-N`. */
  mark: { readonly code: number; readonly name: string; readonly ms: number };
  state: MachineState;
  /** A device found the guest's driver broken and waits for its reset. */
  deviceError: { readonly device: string; readonly reason: string };
  end: MachineEnd;
}

/** What `timeline()` returns: phases with their time, and what the run cost so far. */
export interface MachineTimeline {
  readonly profile: string;
  readonly phases: readonly TimelineEntry[];
  readonly exits: ExitMetrics;
  /** KVM's counter of emulated instructions, where it has one. */
  readonly insnEmulation: number | undefined;
  /** Every counter that KVM keeps of the vCPUs (exits, halt_exits, irq_injections, ...), those at 0 left out. */
  readonly kvmStats: Readonly<Record<string, number>> | undefined;
}

type Metrics = Pick<MachineTimeline, 'exits' | 'insnEmulation' | 'kvmStats'>;

/**
 * A machine. `stop()` or `await using` releases everything it holds; one that is only dropped is released when it ends.
 *
 * @example
 * ```ts
 * await using machine = await createMachine({ kernel: 'vmlinux', initrd: 'initramfs.cpio', cmdline: 'console=ttyS0' });
 * machine.on('console', (bytes) => process.stdout.write(bytes));
 * await machine.start();
 * const end = await machine.wait();
 * ```
 */
export interface Machine extends AsyncDisposable {
  readonly state: MachineState;
  /** Name of the host profile in use. */
  readonly profile: string;
  /** The guest kernel's whole command line; empty for a firmware file. */
  readonly cmdline: string;
  readonly console: MachineConsole;
  /** @throws TsvmError `TSVM_STATE` if it was started before. */
  start(): Promise<void>;
  /** Stops every vCPU between two instructions. Nothing happens if it is paused. @throws TsvmError `TSVM_STATE` unless running. */
  pause(): Promise<void>;
  /** @throws TsvmError `TSVM_STATE` unless paused. */
  resume(): Promise<void>;
  /** Ends the machine at once, as pulling the plug does; disks are flushed. Safe at any time and more than once. */
  stop(): Promise<void>;
  /** Resolves when the machine has ended and released what it held. Never rejects. */
  wait(): Promise<MachineEnd>;
  on<Name extends keyof MachineEvents>(
    name: Name,
    listener: (payload: MachineEvents[Name]) => void,
  ): Disposable;
  timeline(): MachineTimeline;
}

/**
 * Makes a machine and loads its guest; no instruction has run yet.
 *
 * @throws TsvmError for a configuration, file or host that will not do. Nothing is left behind then.
 */
export async function createMachine(config: MachineConfig): Promise<Machine> {
  const timeline = new Timeline();
  timeline.mark('create');
  checkConfig(config, { totalMemoryBytes: hostMemory().totalBytes });
  const profile = chooseProfile(config.profile ?? 'auto');
  const files = await readBootFiles(config);
  timeline.mark('files-read');
  const cleanup = new Cleanup();
  try {
    const addon = loadAddon();
    const kvm = openKvm(addon);
    cleanup.defer(() => kvm.close());
    const machine = new KvmMachine(profile, timeline, cleanup);
    const host = createHost(addon, machine.terminal);
    const devices = [];
    const console = config.console === 'virtio' ? [virtioConsole()] : [];
    for (const request of [...console, ...(config.devices ?? [])]) {
      const device = await request.open(host);
      cleanup.defer(() => device.close?.());
      devices.push(device);
    }
    const vm = createVm(addon, kvm, {
      ram: ramRanges(config.memoryBytes ?? DEFAULT_MEMORY_BYTES),
      cpus: config.cpus ?? 1,
      ...(files.firmware === undefined ? {} : { rom: files.firmware.rom }),
    });
    cleanup.defer(() => vm.close());
    timeline.mark('vm-created');
    const memory = createGuestMemory(vm.regions);
    const wiring = new Wiring(addon, vm.handle);
    cleanup.defer(() => wiring.close());
    const platform = new Platform({
      config,
      memory,
      wiring,
      devices,
      terminal: machine.terminal,
      events: machine.platformEvents,
    });
    cleanup.defer(() => platform.pause());
    wiring.connect();
    const cmdline = await loadGuest({ config, files, memory, vm, profile, slots: platform.slots });
    timeline.mark('guest-loaded');
    machine.attach({ vm, memory, platform, cmdline });
    return machine;
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

function chooseProfile(name: string): HostProfile {
  if (name === 'auto') return detectProfile(readHostFacts());
  const profile = hostProfiles.find((candidate) => candidate.name === name);
  if (profile === undefined) {
    throw new TsvmError('TSVM_CONFIG', `profile: there is no host profile '${name}'`, {
      hint: `one of auto, ${hostProfiles.map((candidate) => candidate.name).join(', ')}`,
    });
  }
  return profile;
}

/** What a machine runs on, once it is all there. */
interface Parts {
  readonly vm: Vm;
  readonly memory: GuestMemory;
  readonly platform: Platform;
  readonly cmdline: string;
}

class KvmMachine implements Machine {
  readonly terminal = new Terminal((bytes) => this.#onConsole(bytes));
  readonly #profile: HostProfile;
  readonly #timeline: Timeline;
  readonly #cleanup: Cleanup;
  readonly #events = new Events<MachineEvents>();
  readonly #panic = new PanicScanner();
  readonly #ended: Promise<MachineEnd>;
  #resolveEnded: (end: MachineEnd) => void = () => {};
  #parts: Parts | undefined;
  #state: MachineState = 'ready';
  #resumeWanted: symbol | undefined;
  #runners: VcpuRunner[] = [];
  #end: MachineEnd | undefined;
  #exitStatus: number | undefined;
  #finalMetrics: Metrics | undefined;

  constructor(profile: HostProfile, timeline: Timeline, cleanup: Cleanup) {
    this.#profile = profile;
    this.#timeline = timeline;
    this.#cleanup = cleanup;
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** What the platform's devices tell the machine. */
  get platformEvents() {
    return {
      onMark: (code: number) => this.#mark(code),
      onExitStatus: (status: number) => {
        this.#exitStatus = status;
      },
      onPowerOff: () => this.#finish({ kind: 'power-off', exitStatus: this.#exitStatus }),
      onReset: () => {
        const message = this.#panic.panic;
        this.#finish(
          message === undefined
            ? { kind: 'reset', exitStatus: this.#exitStatus }
            : { kind: 'panic', message },
        );
      },
      onDeviceError: (device: string, reason: string) => this.#events.emit('deviceError', { device, reason }),
    };
  }

  attach(parts: Parts): void {
    this.#parts = parts;
    const { vm, memory, platform } = parts;
    const assist: ExitAssist | undefined = this.#profile.createAssist?.(vm.vcpus, memory);
    this.#runners = vm.vcpus.map(
      (vcpu) =>
        new VcpuRunner({
          vcpu,
          ports: platform.ports,
          memory: platform.mmio,
          assist,
          onFatal: (which, fatal) => this.#fatal(which, fatal),
        }),
    );
  }

  get #vcpus(): readonly NativeVcpu[] {
    return this.#parts?.vm.vcpus ?? [];
  }

  #onConsole(bytes: Uint8Array): void {
    this.#panic.push(bytes);
    this.#events.emit('console', bytes.slice());
  }

  get state(): MachineState {
    return this.#state;
  }

  get profile(): string {
    return this.#profile.name;
  }

  get cmdline(): string {
    return this.#parts?.cmdline ?? '';
  }

  get console(): MachineConsole {
    return this.terminal;
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
    // Of a `pause` and a `resume` that overlap, the later one counts.
    if (this.#resumeWanted !== wish || this.#end !== undefined) return;
    this.#setState('running');
    for (const runner of this.#runners) runner.run();
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

  timeline(): MachineTimeline {
    return {
      profile: this.#profile.name,
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
    this.#timeline.mark(name, this.#insnEmulation());
    const ms = this.#timeline.entries.at(-1)?.ms ?? 0;
    this.#events.emit('mark', { code, name, ms });
  }

  #fatal(vcpu: NativeVcpu, fatal: FatalExit): void {
    const panic = this.#panic.panic;
    switch (fatal.kind) {
      case 'triple-fault':
        this.#finish(panic === undefined ? { kind: 'triple-fault' } : { kind: 'panic', message: panic });
        return;
      case 'system-event':
        if (fatal.type === KVM_SYSTEM_EVENT_SHUTDOWN)
          this.#finish({ kind: 'power-off', exitStatus: this.#exitStatus });
        else if (fatal.type === KVM_SYSTEM_EVENT_CRASH)
          this.#finish({ kind: 'panic', message: panic ?? 'the guest reported a crash' });
        else this.#finish({ kind: 'reset', exitStatus: this.#exitStatus });
        return;
      case 'kvm-error': {
        const message = failureSummary(vcpu, fatal.exit, fatal.errno, this.#parts?.memory);
        this.#finish({ kind: 'kvm-error', message, registers: registerReport(vcpu) });
        return;
      }
      default:
        fatal satisfies never;
    }
  }

  /** The first end counts. Called from within an exit, so the release happens in its own turn. */
  #finish(end: MachineEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    for (const runner of this.#runners) runner.stop();
    this.#timeline.mark('end', this.#insnEmulation());
    this.#finalMetrics = this.#metrics();
    setImmediate(() => void this.#releaseAll(end));
  }

  async #releaseAll(end: MachineEnd): Promise<void> {
    let outcome = end;
    try {
      await this.#cleanup.run();
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
    if (this.#state !== state || this.#end !== undefined) {
      throw new TsvmError(
        'TSVM_STATE',
        `cannot ${action} a machine that is ${this.#end === undefined ? this.#state : 'ended'}`,
      );
    }
  }
}

const MARK_NAMES: Readonly<Record<number, string>> = { 1: 'init', 2: 'command' };

/** struct kvm_run, system_event.type. */
const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
const KVM_SYSTEM_EVENT_CRASH = 3;
