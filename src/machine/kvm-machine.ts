/** One machine on KVM as its user has it. */
import type { Duplex } from 'node:stream';
import type { BalloonControl } from '../devices/backends/balloon.js';
import type { NetControl } from '../devices/backends/net.js';
import type { Blk } from '../devices/blk/blk.js';
import { TsvmError } from '../errors.js';
import type { GuestChannel } from '../guest/channel.js';
import type { MachineVsock } from '../host/vsock/endpoint.js';
import type { SnapshotOptions, SnapshotResult } from '../snapshot/format.js';
import { type Abortable, untilAborted } from '../util/abort.js';
import type { FeedReader } from '../util/feed.js';
import type { MachineConfig } from './config.js';
import type { MachineConsole } from './console.js';
import type { MachineCore } from './core.js';
import { changeDisk } from './disk-change.js';
import { forkMachine, prepareForks } from './fork.js';
import { guardedVsock } from './guarded-vsock.js';
import type {
  ForkOptions,
  Machine,
  MachineEnd,
  MachineEvent,
  MachineEvents,
  MachineState,
  MachineTimeline,
} from './machine.js';
import { eventsOf, linesOf } from './report/feeds.js';
import type { MachineMetrics } from './report/metrics.js';
import { snapshotMachine } from './save.js';

/** Time that `stop` gives the guest by default. */
const DEFAULT_STOP_MS = 10_000;
/** Longest time of a Node timer. */
const MAX_STOP_MS = 2 ** 31 - 1;
/** Time for the guest's init to write back its disks, after its command had its time. */
const POWER_OFF_MS = 2000;

export class KvmMachine implements Machine {
  readonly core: MachineCore;

  constructor(core: MachineCore) {
    this.core = core;
  }

  get state(): MachineState {
    return this.core.lifecycle.state;
  }

  get profile(): string {
    return this.core.parts.profile.name;
  }

  get config(): MachineConfig {
    return this.core.config;
  }

  get cmdline(): string {
    return this.core.parts.cmdline;
  }

  get console(): MachineConsole {
    return this.core.lifecycle.terminal;
  }

  get channel(): GuestChannel | undefined {
    return this.core.parts.channel;
  }

  get disks(): readonly Blk[] {
    return this.core.parts.disks;
  }

  get cards(): readonly NetControl[] {
    return this.core.parts.cards;
  }

  get balloon(): BalloonControl | undefined {
    return this.core.parts.balloon;
  }

  get vsock(): MachineVsock | undefined {
    const sockets = this.core.parts.host.vsock();
    return sockets && guardedVsock(sockets, this.core.lifecycle.guard);
  }

  on<Name extends keyof MachineEvents>(
    name: Name,
    listener: (payload: MachineEvents[Name]) => void,
  ): Disposable {
    return this.core.lifecycle.events.on(name, listener);
  }

  events(options: Abortable = {}): FeedReader<MachineEvent> {
    return eventsOf(this, options);
  }

  lines(options: Abortable = {}): FeedReader<string> {
    return linesOf(this, options);
  }

  async start(): Promise<void> {
    await this.core.start();
  }

  async pause({ signal }: Abortable = {}): Promise<void> {
    await untilAborted(signal, () => this.core.pause());
  }

  async resume({ signal }: Abortable = {}): Promise<void> {
    await untilAborted(signal, () => this.core.resume());
  }

  async changeDisk(index: number, path: string, { signal }: Abortable = {}): Promise<void> {
    signal?.throwIfAborted();
    const { core } = this;
    const what = 'change a disk of';
    core.refuseUnless(['ready', 'running', 'paused'], what);
    const change = async (): Promise<void> => {
      core.config = await changeDisk({ ...core.parts, config: core.config }, index, path);
    };
    await core.still(what, change, signal);
  }

  async snapshot(directory: string, options: SnapshotOptions = {}): Promise<SnapshotResult> {
    return await snapshotMachine(this.core, directory, options);
  }

  async fork(count: number, options: ForkOptions = {}): Promise<this[]> {
    const forks = await forkMachine(this.core, count, options);
    return forks.map((core) => new KvmMachine(core)) as this[]; // of the same configuration
  }

  async prepareForks(count: number, { signal }: Abortable = {}): Promise<void> {
    await prepareForks(this.core, count, signal);
  }

  requestStop({ insist = false } = {}): boolean {
    const { lifecycle, parts } = this.core;
    if (lifecycle.state !== 'running' || lifecycle.isOver) return false;
    if (lifecycle.ends.stopRequested && !insist) return true;
    const { channel, stopPort, platform } = parts;
    const asked = channel?.requestStop(insist) || stopPort?.request() || platform.pressCtrlAltDel();
    lifecycle.ends.stopRequested ||= asked;
    return asked;
  }

  pressCtrlAltDel(): boolean {
    return this.state === 'running' && this.core.parts.platform.pressCtrlAltDel();
  }

  async stop(timeoutMs = DEFAULT_STOP_MS, { signal }: Abortable = {}): Promise<void> {
    signal?.throwIfAborted();
    if (!(timeoutMs >= 0 && timeoutMs <= MAX_STOP_MS)) {
      throw new TsvmError('TSVM_CONFIG', `timeoutMs: ${timeoutMs} is not from 0 to ${MAX_STOP_MS}`);
    }
    if (timeoutMs > 0 && this.requestStop() && !(await this.#endsWithin(timeoutMs, signal))) {
      this.requestStop({ insist: true });
      await this.#endsWithin(POWER_OFF_MS, signal);
    }
    await this.kill();
  }

  async dialAgent(options: Abortable = {}): Promise<Duplex> {
    const agent = this.core.parts.channel?.agent;
    if (agent === undefined) {
      throw new TsvmError('TSVM_STATE', 'this machine has no agent', {
        hint: 'make it with one: `agent: true`',
      });
    }
    this.core.refuseUnless(['running'], 'reach the agent of');
    return await agent.dial(options);
  }

  async kill(): Promise<void> {
    await this.core.lifecycle.kill();
  }

  async #endsWithin(ms: number, signal: AbortSignal | undefined): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), ms);
    });
    try {
      return await untilAborted(signal, () => Promise.race([this.wait().then(() => true), late]));
    } finally {
      clearTimeout(timer);
    }
  }

  async wait({ signal }: Abortable = {}): Promise<MachineEnd> {
    return await untilAborted(signal, () => this.core.lifecycle.ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  metrics(): MachineMetrics {
    return this.core.meter.metrics();
  }

  timeline(): MachineTimeline {
    return this.core.meter.timeline();
  }
}
