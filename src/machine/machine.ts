/** A virtual machine as an object: what can be asked of it, what it tells, how it ends. */
import type { Duplex } from 'node:stream';
import type { BalloonControl as MachineBalloon } from '../devices/backends/balloon.js';
import type { DiskControl as MachineDisk } from '../devices/backends/disk.js';
import type { NetControl as MachineCard } from '../devices/backends/net.js';
import type { DeviceRequest } from '../devices/kind.js';
import type { GuestChannel } from '../guest/channel.js';
import type { GuestFacts } from '../guest/facts.js';
import type { MachineVsock } from '../host/vsock/endpoint.js';
import type { SnapshotOptions, SnapshotResult } from '../snapshot/format.js';
import type { Abortable } from '../util/abort.js';
import type { FeedReader } from '../util/feed.js';
import type { MachineConfig } from './config.js';
import type { MachineConsole } from './console.js';
import type { ExitMetrics, MachineMetrics } from './report/metrics.js';
import type { TimelineEntry } from './report/timeline.js';

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
  /** Something threw that must not: tsvm itself, or a listener of the library's user. `report` has its stack. */
  | { readonly kind: 'bug'; readonly message: string; readonly report: string }
  /** The plug was pulled: by `kill()`, or by a `stop()` that the guest did not answer. */
  | { readonly kind: 'stopped' };

export interface ForkOptions extends Abortable {
  /** Facts for each fork's guest, by its number from 0: what it learns of the world when it starts. Default: new entropy, and the time. */
  facts?(index: number): GuestFacts;
}

export type MachineState = 'ready' | 'running' | 'paused' | 'ended';

export interface MachineEvents extends Record<string, unknown> {
  /** Console output. The bytes are the listener's to keep. */
  console: Uint8Array;
  /**
   * The guest wrote a boot mark: `init` (its first instruction), `command` (about to be started), `ready` and `done` (of
   * the channel), `root-full` (nothing more could be written to its root when the command had ended), or `mark-N`.
   */
  mark: { readonly code: number; readonly name: string; readonly ms: number };
  state: MachineState;
  /** A device found the guest's driver broken and waits for its reset. */
  deviceError: { readonly device: string; readonly reason: string };
  end: MachineEnd;
}

/** Event of a machine of this process or of another. */
export type MachineEvent = {
  /** Milliseconds since 1970. */
  readonly atMs: number;
} & (
  | { readonly name: 'state'; readonly detail: { readonly state: MachineState } }
  | { readonly name: 'mark'; readonly detail: MachineEvents['mark'] }
  | { readonly name: 'deviceError'; readonly detail: MachineEvents['deviceError'] }
  | { readonly name: 'end'; readonly detail: { readonly kind: string; readonly message?: string } }
  /** Stands in the place of events that were lost, since their reader was too slow. */
  | { readonly name: 'lost'; readonly detail: { readonly count: number } }
);

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

/**
 * Methods that a {@link Machine} of this process and a `RemoteMachine` of another share. An abort (`signal`) ends the wait for what the
 * machine was asked for, which may come all the same.
 */
export interface MachineControls {
  /** Stops every vCPU between two instructions. Nothing happens if it is paused. @throws TsvmError `TSVM_STATE` unless running. */
  pause(options?: Abortable): Promise<void>;
  /** @throws TsvmError `TSVM_STATE` unless paused. */
  resume(options?: Abortable): Promise<void>;
  /**
   * Asks the guest to end, insists after `timeoutMs` (default 10 s), and pulls the plug if that does not help either. Resolves when the
   * machine has ended: its end is a power-off where the guest obeyed, else `stopped`. The plug is pulled at once if nobody listens in
   * the guest, if the machine does not run, or if `timeoutMs` is 0. An abort leaves it at what was asked of the guest by then.
   */
  stop(timeoutMs?: number, options?: Abortable): Promise<void>;
  /**
   * Makes a new connection to the agent of the machine's guest, for as many commands, files and ports as are wanted (docs/agent.md). It waits
   * for a guest that boots, up to a minute. A copy of the machine is dialled anew: connections stay with the original.
   *
   * @throws TsvmError `TSVM_STATE` if the machine has no agent (`agent: true` of its configuration), or does not run; if the guest's init
   * runs none; if nobody answers.
   */
  dialAgent(options?: Abortable): Promise<Duplex>;
  /** Pulls the plug: ends the machine at once; disks are flushed. Safe at any time and more than once. */
  kill(): Promise<void>;
  /**
   * Tells what happens to it from this call on, in a loop that ends with the machine. Events wait for a slow reader, up to 1024; those that
   * are lost then are counted by one named `lost`.
   */
  events(options?: Abortable): FeedReader<MachineEvent>;
  /**
   * Reads its console line by line, in a loop that ends with the machine: that of this process from this call on, that of another from what it
   * said last, and with the output of its command where that is logged. The text is the guest's, and may hold whatever a terminal
   * obeys. Lines wait for a slow reader, up to 1 MiB of characters; one that begins with `[tsvm:` stands for those that are lost then. A line of
   * more than 64 Ki characters comes in pieces.
   */
  lines(options?: Abortable): FeedReader<string>;
}

/** Tells whether a list, as far as it is known when the program is compiled, has a device of a kind. */
type HasDevice<Devices, Kind extends string> = Devices extends readonly [infer First, ...infer Rest]
  ? First extends DeviceRequest<Kind>
    ? true
    : HasDevice<Rest, Kind>
  : Devices extends readonly [...infer Rest, infer Last]
    ? Last extends DeviceRequest<Kind>
      ? true
      : HasDevice<Rest, Kind>
    : false;

/** Parts that not every machine has, by the name of their property. */
interface OptionalParts {
  channel: GuestChannel;
  balloon: MachineBalloon;
  vsock: MachineVsock;
}

/** Name of a part that not every machine has. */
export type MachinePart = keyof OptionalParts;

type Having<Part> = Part extends MachinePart ? { readonly [Name in Part]: OptionalParts[Name] } : never;
type HavingAll<Parts extends readonly MachinePart[]> = Parts extends readonly [
  infer First,
  ...infer Rest extends readonly MachinePart[],
]
  ? Having<First> & HavingAll<Rest>
  : unknown;

/** A machine that has the parts of a list that is known when the program is compiled; of a list that is not, it is not known. */
export type MachineWith<Parts extends readonly MachinePart[]> = Machine & HavingAll<Parts>;

/**
 * A machine of a configuration that is known when the program is compiled: the channel, balloon and vsock that it asks for are there, and what
 * its agent needs of them.
 */
export type MachineOf<Config extends MachineConfig> = Machine &
  (Config extends { readonly channel: true } ? Having<'channel'> : unknown) &
  (Config extends { readonly agent: true } ? Having<'channel'> & Having<'vsock'> : unknown) &
  (HasDevice<Config['devices'], 'balloon'> extends true ? Having<'balloon'> : unknown) &
  (HasDevice<Config['devices'], 'vsock'> extends true ? Having<'vsock'> : unknown);

/**
 * A machine. `kill()`, `stop()` or `await using`, which pulls the plug, releases everything it holds; one that is only dropped is released
 * when it ends.
 *
 * @example
 * ```ts
 * import { createMachine } from 'tsvm';
 *
 * await using machine = await createMachine({ kernel: 'vmlinux', initrd: 'initramfs.cpio' });
 * machine.on('console', (bytes) => process.stdout.write(bytes));
 * await machine.start();
 * console.log(await machine.wait());
 * ```
 */
export interface Machine extends MachineControls, AsyncDisposable {
  readonly state: MachineState;
  /** Name of the host profile in use. */
  readonly profile: string;
  /** What it was made of; of one that was restored or forked, what it is made of now. */
  readonly config: MachineConfig;
  /** The guest kernel's whole command line; empty for a firmware file. */
  readonly cmdline: string;
  readonly console: MachineConsole;
  /** Absent unless the configuration has `channel: true` or `agent: true`; {@link MachineOf} knows. */
  readonly channel: GuestChannel | undefined;
  /** In the order in which they were asked for: the guest's vda, vdb, ... */
  readonly disks: readonly MachineDisk[];
  /** Its network cards, in the order in which they were asked for. */
  readonly cards: readonly MachineCard[];
  /** Absent unless the machine has the device `balloon()`. */
  readonly balloon: MachineBalloon | undefined;
  /** Absent unless the machine has the device `vsock()`, or the agent. */
  readonly vsock: MachineVsock | undefined;
  /** @throws TsvmError `TSVM_STATE` if it was started before. */
  start(): Promise<void>;
  /**
   * Puts another image in the place of disk `index` of `disks`, of the same mode; writes go to it. The old one is flushed and closed. The
   * guest is told the new size, and must not have the old one mounted: what it has read of that stays in its caches. If it is
   * the image that the disk has, the disk takes its size, and writes go on to where they went.
   *
   * @throws TsvmError `TSVM_STATE` if it has ended; `TSVM_CONFIG` if there is no such disk; `TSVM_DISK` if the file cannot
   * be had. Then nothing has changed.
   */
  changeDisk(index: number, path: string, options?: Abortable): Promise<void>;
  /**
   * Asks the guest to end, once, and does not wait as `stop()` does: over the channel or the stop port, where tsvm's init listens (it
   * sends the command SIGTERM; with `insist`, after that, it ends everything; it writes back and unmounts disks, and powers off), else by
   * Ctrl-Alt-Del. A reset is from now on a power-off.
   *
   * @returns false if nobody listens in the guest, or the machine does not run: then there is only `kill()`
   */
  requestStop(options?: { readonly insist?: boolean }): boolean;
  /** Presses Ctrl-Alt-Del on the guest's keyboard (PS/2). @returns false if the guest has no driver that waits for keys */
  pressCtrlAltDel(): boolean;
  /**
   * Saves the machine into a folder, from which `restoreMachine` makes it again, any number of times, here or in another
   * process. It stands still meanwhile and then goes on. What was in the folder is replaced when the new is complete.
   *
   * @throws TsvmError `TSVM_STATE` if it has ended; `TSVM_SNAPSHOT` if the folder cannot be written.
   */
  snapshot(directory: string, options?: SnapshotOptions): Promise<SnapshotResult>;
  /**
   * Makes `count` running machines that are this one in all but name: they share its memory until they write to it, and have
   * its disks with a layer of their own. They have the parts that this one has. This one goes on.
   *
   * @throws TsvmError `TSVM_STATE` unless it is running or paused; and what `createMachine` throws.
   */
  fork(count: number, options?: ForkOptions): Promise<this[]>;
  /** Makes `count` empty virtual machines ahead of time, so that a `fork` need not. They cost some 30 KiB each, and are kept after an abort. */
  prepareForks(count: number, options?: Abortable): Promise<void>;
  /** Resolves when the machine has ended and released what it held. Rejects for an abort of the wait alone. */
  wait(options?: Abortable): Promise<MachineEnd>;
  /** A listener that throws, or whose promise rejects, ends the machine (`bug`): its process and others live on. */
  on<Name extends keyof MachineEvents>(
    name: Name,
    listener: (payload: MachineEvents[Name]) => void,
  ): Disposable;
  timeline(): MachineTimeline;
  /** What it has done so far, by vCPUs, devices and queues. `prometheusText` makes a page of it. */
  metrics(): MachineMetrics;
}
