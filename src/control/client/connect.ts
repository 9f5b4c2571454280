/** A machine of another process, steered from this one: what the commands and the dashboard use, and the library gives. */
import type { Duplex, Readable } from 'node:stream';
import { TsvmError } from '../../errors.js';
import type { MachineControls, MachineEvent, MachineTimeline } from '../../machine/machine.js';
import type { SnapshotResult } from '../../snapshot/format.js';
import type { Abortable } from '../../util/abort.js';
import type { FeedReader } from '../../util/feed.js';
import type { InstanceEnd } from '../instance-end.js';
import { isRunning, type MachineRecord, MachineStore } from '../machine-store.js';
import type { MachineStats } from '../stats/stats.js';
import { ControlClient } from './client.js';
import { followEvents, followLines, type Source } from './follow.js';

/** Event of a machine of another process; a newer one may tell of more. */
export type RemoteEvent = MachineEvent;

/** Time limit of an answer that comes at once, from a process that does not hang. */
const ANSWER_MS = 5000;
/**
 * A running machine that has a name, or that `tsvm api` serves.
 *
 * Every call throws `TSVM_STATE` with the machine's own words if it refuses, or if nobody answers any more. Every call can be aborted
 * (`signal`): its request is dropped then. Copies, snapshots and machines that are being made for it are given up; what else the machine
 * was asked for may come all the same.
 */
export class RemoteMachine implements MachineControls {
  readonly name: string;
  readonly #client: ControlClient;

  /** @param socketPath - of its control API */
  constructor(name: string, socketPath: string) {
    this.name = name;
    this.#client = new ControlClient(socketPath, name);
  }

  /** `Not started`, `Running`, `Paused` or `Ended`. */
  async state({ signal }: Abortable = {}): Promise<string> {
    return (
      await this.#client.call<{ state: string }>('GET', '/tsvm/machine', { signal, timeoutMs: ANSWER_MS })
    ).state;
  }

  /** Asks what it costs and has done so far. */
  async stats(timeoutMs = ANSWER_MS, { signal }: Abortable = {}): Promise<MachineStats> {
    return await this.#client.call('GET', '/tsvm/stats', { signal, timeoutMs });
  }

  async timeline({ signal }: Abortable = {}): Promise<MachineTimeline> {
    return await this.#client.call('GET', '/tsvm/timeline', { signal, timeoutMs: ANSWER_MS });
  }

  async pause({ signal }: Abortable = {}): Promise<void> {
    await this.#client.call('PATCH', '/vm', { signal, body: { state: 'Paused' } });
  }

  async resume({ signal }: Abortable = {}): Promise<void> {
    await this.#client.call('PATCH', '/vm', { signal, body: { state: 'Resumed' } });
  }

  async stop(timeoutMs?: number, { signal }: Abortable = {}): Promise<void> {
    const body = timeoutMs === undefined ? {} : { timeout_ms: timeoutMs };
    await this.#client.call('PUT', '/tsvm/stop', { signal, body });
  }

  /** @param timeoutMs - limit of its process's answer, which may hang; default: none */
  async kill(timeoutMs?: number, { signal }: Abortable = {}): Promise<void> {
    await this.#client.call('PUT', '/tsvm/kill', {
      signal,
      ...(timeoutMs !== undefined && { timeoutMs }),
    });
  }

  /** Resolves when it has ended. */
  async wait({ signal }: Abortable = {}): Promise<InstanceEnd> {
    return await this.#client.call('GET', '/tsvm/wait', { signal });
  }

  /** @param directory - as its process finds it: an absolute path is safe */
  async snapshot(
    directory: string,
    differential = false,
    { signal }: Abortable = {},
  ): Promise<SnapshotResult> {
    const body = { directory, differential };
    return await this.#client.call('PUT', '/tsvm/snapshot', { signal, body });
  }

  /**
   * Makes running copies in its process, one for each name, which is its guest's host name too if that has the channel.
   *
   * @param fresh - whether each gets new entropy and the time
   */
  async fork(names: readonly string[], fresh = true, { signal }: Abortable = {}): Promise<void> {
    const body = fresh ? { names } : { names, fresh };
    await this.#client.call('PUT', '/tsvm/fork', { signal, body });
  }

  /**
   * Makes and starts a machine in the process of `tsvm serve`; it is found by `name` then.
   *
   * @param request - `spec`: a machine as data, `config`: one in Firecracker's words (docs/api.md); `snapshot`: the folder of a saved one,
   * and the `devices` that it may have of the host, by the names of slots; `command`: what a guest with a channel is to run; with
   * `fresh: false` it gets no new entropy, and not the time
   */
  async make(
    name: string,
    request:
      | { readonly spec: object; readonly command?: readonly string[] }
      | { readonly config: object }
      | {
          readonly snapshot: string;
          readonly command?: readonly string[];
          readonly devices?: Readonly<Record<string, object>>;
          readonly fresh?: boolean;
        },
    { signal }: Abortable = {},
  ): Promise<void> {
    const path = `/tsvm/machines/${encodeURIComponent(name)}`;
    await this.#client.call('PUT', path, { signal, body: request });
  }

  /** Makes a new connection to its agent. An abort is one of the making. */
  async dialAgent({ signal }: Abortable = {}): Promise<Duplex> {
    return await this.#client.dialAgent({ signal });
  }

  /** Opens its console, both ways: first what it said last. Ending it lets go, and the machine goes on. An abort is one of the opening. */
  async attach({ signal }: Abortable = {}): Promise<Duplex> {
    return await this.#client.attach({ signal });
  }

  /** Streams what its console said last and says from now on. An abort is one of the opening. */
  async output({ signal }: Abortable = {}): Promise<Readable> {
    return await this.#client.stream('/tsvm/console', { signal });
  }

  events({ signal }: Abortable = {}): FeedReader<MachineEvent> {
    return followEvents(this.#source('/tsvm/events', signal));
  }

  lines({ signal }: Abortable = {}): FeedReader<string> {
    return followLines(this.#source('/tsvm/console', signal));
  }

  #source(path: string, signal: AbortSignal | undefined): Source {
    return { name: this.name, signal, open: () => this.#client.stream(path, { signal }) };
  }

  /** Sends one request of the API (docs/api.md), for what has no method here. @returns the answer as JSON; undefined for 204 */
  async call<Reply = undefined>(
    method: string,
    path: string,
    body?: object,
    { signal }: Abortable = {},
  ): Promise<Reply> {
    return await this.#client.call(method, path, { signal, ...(body && { body }) });
  }
}

/**
 * A machine by its name.
 *
 * @param directory - where machines are found; default: where the commands find them
 * @throws TsvmError `TSVM_STATE` if there is none of that name, or it has ended.
 *
 * @example
 * ```ts
 * import { connect } from 'tsvm';
 *
 * const machine = connect('web');
 * await machine.pause();
 * console.log((await machine.stats()).process.proportionalBytes);
 * ```
 */
export function connect(name: string, directory?: string): RemoteMachine {
  const { folder, record } = new MachineStore(directory).find(name);
  if (isRunning(record)) return new RemoteMachine(name, folder.socketPath);
  throw new TsvmError('TSVM_STATE', `${name} has ended`, { hint: `see what it said: tsvm logs ${name}` });
}

/** All machines with a name, those that have ended as well. */
export function listMachines(directory?: string): readonly MachineRecord[] {
  return new MachineStore(directory).list().map(({ record }) => record);
}
