/** One machine as the control API sees it: first what it shall be, then what it is, at last how it ended. */
import type { Duplex } from 'node:stream';
import type { DialAgent } from '../agent/connection.js';
import type { Container } from '../container/container.js';
import type { MachineConfig } from '../machine/config.js';
import type { Machine } from '../machine/machine.js';
import { disposeAll } from '../util/cleanup.js';
import { ApiError } from './api-error.js';
import { type Draft, EMPTY_DRAFT } from './draft.js';
import { type InstanceEnd, instanceEnd } from './instance-end.js';
import type { ConsoleLog } from './logs/console-log.js';
import { LogFiles } from './logs/log-file.js';
import { kvmMakers, type Makers } from './makers.js';
import type { PoolRequest, SlotBindings } from './pool-request.js';
import { restoreFor } from './restore-for.js';
import { ProcessMeter } from './stats/process-meter.js';

/** `Serving`: it stands for a process that runs many. */
export type InstanceState = 'Not started' | 'Running' | 'Paused' | 'Ended' | 'Serving';

/** What happened to it, for those who listen. */
export interface InstanceEvent {
  readonly name: 'state' | 'mark' | 'deviceError' | 'end';
  /** Milliseconds since 1970. */
  readonly atMs: number;
  readonly detail: object;
}

/** Request of the API, with the status of its answer. */
export interface AnsweredRequest {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly status: number;
}

const STOPPED = instanceEnd({ kind: 'stopped' });

/** Parts of a container by which it is steered and looked at. */
export type SteeredContainer = Pick<Container, 'pid' | 'usage' | 'signal' | 'dialAgent'>;

const SIGTERM = 15;
const SIGKILL = 9;
/** Time that a command has to end after SIGTERM. */
const STOP_TIMEOUT_MS = 10_000;

/** Takes bytes; after `false`, `onDrain` says when it takes more. */
export interface InstanceInput {
  write(bytes: Uint8Array): boolean;
  onDrain(callback: () => void): void;
}

interface InstanceOptions {
  /** Meter that all machines of this process share. */
  readonly meter?: ProcessMeter;
  readonly makers?: Makers;
  /** Host name of a saved machine's guest that is loaded. */
  readonly hostname?: string | undefined;
}

export class Instance {
  readonly id: string;
  readonly log: ConsoleLog;
  readonly meter: ProcessMeter;
  readonly logFiles = new LogFiles();
  readonly createdMs = Date.now();
  /** Draft of the machine, until it starts. */
  draft: Draft = EMPTY_DRAFT;
  startedMs: number | undefined;
  readonly ended: Promise<InstanceEnd>;
  /** Makes copies by these names, where there is somebody who can. */
  onFork: ((names: readonly string[], fresh: boolean, signal?: AbortSignal) => Promise<void>) | undefined;
  /** Makes a machine beside it, where this stands for a process that runs many. */
  onMake: ((name: string, request: PoolRequest, signal?: AbortSignal) => Promise<void>) | undefined;
  /** Called when there is a machine, before its guest runs. */
  onAdopt: () => void = () => {};
  /** Called for everything of the host that a saved machine of this process gets, before it gets it. `text` is fit for a terminal. */
  onBind: (name: string, slot: string, text: string) => void = () => {};
  /** Called for each request that was answered. */
  onAnswer: (request: AnsweredRequest) => void = () => {};
  /** Where what is typed goes, if not to the machine's console. */
  input: InstanceInput | undefined;
  /** A container's command has a terminal, which is its console. */
  hasTerminal = false;
  /** Connects to its agent, where there is something to connect to. */
  dialAgent: DialAgent | undefined;
  /** Clients that are connected to its agent, or about to be. */
  readonly agentClients = new Set<Duplex>();
  readonly #makers: Makers;
  readonly #hostname: string | undefined;
  #settle: (end: InstanceEnd) => void = () => {};
  #end: InstanceEnd | undefined;
  #machine: Machine | undefined;
  #container: SteeredContainer | undefined;
  /** The machine that is being made: there is one at most, however many ask for one. */
  #making: Promise<Machine> | undefined;
  #inputWaits = false;
  readonly #listeners = new Set<(event: InstanceEvent) => void>();
  readonly #subscriptions: Disposable[] = [];

  constructor(
    id: string,
    log: ConsoleLog,
    { meter = new ProcessMeter(), makers = kvmMakers, hostname }: InstanceOptions = {},
  ) {
    this.id = id;
    this.log = log;
    this.meter = meter;
    this.#makers = makers;
    this.#hostname = hostname;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  get state(): InstanceState {
    if (this.#end !== undefined || this.#machine?.state === 'ended') return 'Ended';
    if (this.#container !== undefined) return 'Running';
    if (this.#machine === undefined) return this.onMake === undefined ? 'Not started' : 'Serving';
    return this.#machine.state === 'running' ? 'Running' : 'Paused';
  }

  get end(): InstanceEnd | undefined {
    return this.#end;
  }

  /** The container that it is, if it is none of the machines. */
  get container(): SteeredContainer | undefined {
    return this.#container;
  }

  /** @throws ApiError for what a container has not. */
  refuseContainer(): void {
    if (this.#container !== undefined) throw new ApiError(NO_MACHINE);
  }

  /** @throws ApiError before it has started, and for a container. */
  get machine(): Machine {
    this.refuseContainer();
    if (this.#machine === undefined) throw new ApiError(NOT_YET);
    return this.#machine;
  }

  get terminal(): InstanceInput {
    if (this.#container !== undefined && this.input === undefined) throw new ApiError(ELSEWHERE);
    return this.input ?? this.machine.console;
  }

  get hasStarted(): boolean {
    return this.#machine !== undefined || this.#container !== undefined;
  }

  /** Tells whether what it shall be is decided: it has started, is about to, or has ended without. */
  get isDecided(): boolean {
    return this.hasStarted || this.#making !== undefined || this.#end !== undefined;
  }

  /**
   * Makes what was asked for, and starts it.
   *
   * @throws ApiError if it is decided already; TsvmError for what cannot be: it may be asked for otherwise then.
   */
  async start(): Promise<void> {
    await this.#make(() => this.#makers.make(this.draft), true);
  }

  /**
   * Makes a saved machine go on, or stand there.
   *
   * @param bindings - what the saved machine may have of the host
   * @param fresh - whether its guest gets new entropy and the time
   * @throws as {@link Instance.start}
   */
  async load(
    directory: string,
    run: boolean,
    bindings: (saved: MachineConfig) => SlotBindings,
    fresh = true,
  ): Promise<void> {
    await this.#make(async () => {
      await using saved = await this.#makers.open(directory);
      return await restoreFor(saved, {
        devices: bindings(saved.config),
        field: 'tsvm_devices',
        facts: { hostname: this.#hostname, fresh },
        onBind: (slot, text) => this.onBind(this.id, slot, text),
      });
    }, run);
  }

  async #make(make: () => Promise<Machine>, run: boolean): Promise<void> {
    if (this.isDecided) throw new ApiError(TOO_LATE);
    this.#making = make();
    try {
      this.adopt(await this.#making);
    } finally {
      this.#making = undefined;
    }
    if (run) await this.machine.start();
  }

  /** Waits for a machine that is being made, which cannot be called off: it would be nobody's. */
  async #made(): Promise<void> {
    await this.#making?.catch(() => {}); // who asked for it is told
  }

  /** Takes a machine that somebody made. */
  adopt(machine: Machine): void {
    this.#machine = machine;
    this.dialAgent = (options) => machine.dialAgent(options);
    this.startedMs = Date.now();
    this.#subscriptions.push(
      machine.on('console', (bytes) => this.log.push(bytes)),
      machine.on('state', (state) => this.#tell('state', { state })),
      machine.on('mark', (mark) => this.#tell('mark', mark)),
      machine.on('deviceError', (error) => this.#tell('deviceError', error)),
    );
    this.onAdopt();
  }

  /** Takes a container that somebody started. */
  adoptContainer(container: SteeredContainer): void {
    this.#container = container;
    this.dialAgent = (options) => container.dialAgent(options);
    this.startedMs = Date.now();
  }

  /** Hears no more of its machine, which goes on. */
  release(): void {
    disposeAll(this.#subscriptions);
  }

  /** Its end, which the one who made it knows best: the status is a command's, perhaps. The first word counts. */
  finish(end: InstanceEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#tell('end', end);
    this.#settle(end);
  }

  listen(listener: (event: InstanceEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Calls `listener` when it has ended; at once if it has. */
  onEnd(listener: (end: InstanceEnd) => void): Disposable {
    if (this.#end !== undefined) listener(this.#end);
    return this.listen(({ name }) => {
      if (name === 'end' && this.#end !== undefined) listener(this.#end);
    });
  }

  /** Types `bytes`. False, and nothing is typed, while the guest has not taken what was typed so before. */
  type(bytes: Uint8Array): boolean {
    if (this.#inputWaits) return false;
    const { terminal } = this;
    if (terminal.write(bytes)) return true;
    this.#inputWaits = true;
    terminal.onDrain(() => {
      this.#inputWaits = false;
    });
    return true;
  }

  async pause(): Promise<void> {
    await this.machine.pause();
  }

  async resume(): Promise<void> {
    const { machine } = this;
    if (machine.state === 'ready') await machine.start();
    else if (machine.state !== 'running') await machine.resume();
  }

  /** Asks the guest to end, where there is somebody to be asked, then ends it. */
  async stop(timeoutMs?: number): Promise<void> {
    if (this.#container !== undefined) return await this.#stopContainer(this.#container, timeoutMs);
    await this.#finishBy((machine) => machine.stop(timeoutMs));
  }

  /** @param signal - abort of who asked: no copy is made then */
  async fork(names: readonly string[], fresh = true, signal?: AbortSignal): Promise<void> {
    this.refuseContainer();
    if (this.onFork === undefined)
      throw new ApiError('This machine has no name, and so its forks would have none.');
    if (new Set([...names, this.id]).size !== names.length + 1)
      throw new ApiError('Each needs a name of its own.');
    await this.onFork(names, fresh, signal);
  }

  /** @param signal - abort of who asked: no machine is made then */
  async make(name: string, request: PoolRequest, signal?: AbortSignal): Promise<void> {
    if (this.onMake === undefined) throw new ApiError('This process runs one machine: tsvm serve runs many.');
    await this.onMake(name, request, signal);
  }

  async kill(): Promise<void> {
    if (this.#container !== undefined) return await this.#stopContainer(this.#container, 0);
    await this.#finishBy((machine) => machine.kill());
  }

  async #finishBy(endMachine: (machine: Machine) => Promise<void>): Promise<void> {
    await this.#made();
    if (this.#machine === undefined) this.finish(STOPPED);
    else await endMachine(this.#machine);
    await this.ended;
  }

  /** Asks its command to end, then ends it. */
  async #stopContainer(container: SteeredContainer, timeoutMs = STOP_TIMEOUT_MS): Promise<void> {
    if (timeoutMs > 0) container.signal(SIGTERM);
    const late = setTimeout(() => container.signal(SIGKILL), timeoutMs);
    await this.ended;
    clearTimeout(late);
  }

  #tell(name: InstanceEvent['name'], detail: object): void {
    const event = { name, atMs: Date.now(), detail };
    for (const listener of this.#listeners) listener(event);
  }
}

export const NO_MACHINE =
  'This is a container: it has no devices, memory or vCPUs of its own, and is neither paused, saved nor copied.';
const ELSEWHERE = 'Its command has the terminal or streams of whoever started it.';
export const NOT_YET = 'The requested operation is not supported before starting the microVM.';
export const TOO_LATE = 'The requested operation is not supported after starting the microVM.';
