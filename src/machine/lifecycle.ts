/**
 * Lifecycle of a machine: its console, events, state and end. It is made first, so that everything else of the machine can be wired to
 * it, and its vCPUs last.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { markName } from '../guest/protocol.js';
import { Cleanup } from '../util/cleanup.js';
import { Guard } from '../util/guard.js';
import { warnOperator } from '../util/operator-warning.js';
import { Terminal } from './console.js';
import type { MachineEnd, MachineEvents, MachineState } from './machine.js';
import { Events } from './report/events.js';
import { bugEnd, GuestEnds } from './report/guest-ends.js';
import { nowMs, type Timeline } from './report/timeline.js';

/** Time for a machine with a fault to release what it holds, before its end is told. */
const BUG_RELEASE_MS = 10_000;

export class Lifecycle {
  readonly timeline: Timeline;
  /** Steps that release what the machine holds; each part adds its own. */
  readonly cleanup = new Cleanup();
  /** Boundary of the machine: calls from outside are made within it. */
  readonly guard = new Guard((where, error) => this.fault(where, error));
  readonly events = new Events<MachineEvents>(this.guard);
  readonly terminal = new Terminal((bytes) => this.#print(bytes), this.guard);
  readonly ends = new GuestEnds();
  /** Resolves when the machine has ended and released what it held. Never rejects. */
  readonly ended: Promise<MachineEnd>;
  #resolveEnded: (end: MachineEnd) => void = () => {};
  #state: MachineState = 'ready';
  #end: MachineEnd | undefined;
  #onFinish: () => void = () => {};

  constructor(timeline: Timeline) {
    this.timeline = timeline;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  get state(): MachineState {
    return this.#state;
  }

  set state(state: MachineState) {
    this.#state = state;
    this.events.emit('state', state);
  }

  /** Tells whether the end has come, if only what the machine held is not released yet. */
  get isOver(): boolean {
    return this.#end !== undefined;
  }

  /** Calls `callback` when the end comes, before anything is released; at once if it has come. */
  onFinish(callback: () => void): void {
    this.#onFinish = callback;
    if (this.isOver) callback();
  }

  #print(bytes: Uint8Array): void {
    this.ends.printed(bytes);
    this.events.emit('console', bytes.slice());
  }

  /** Takes a mark of the guest's. */
  mark(code: number, insnEmulation: () => number | undefined): void {
    const name = markName(code);
    this.timeline.guestMark(code, name, insnEmulation);
    this.events.emit('mark', { code, name, ms: nowMs() });
  }

  /** Ends the machine for a fault of its own, or of a listener. After the end only the operator is left to be told. */
  fault(where: string, error: unknown): void {
    const end = bugEnd(where, error);
    if (this.isOver) warnOperator(`${end.message}, after the machine's end`, end.report);
    else this.finish(end);
  }

  /** Ends the machine because a file under its memory was truncated. */
  memoryLost(message = "the snapshot's memory file was truncated while the machine ran from it"): void {
    this.finish({ kind: 'kvm-error', message, registers: '' });
  }

  /** Ends the machine as pulling the plug does. Resolves when all is released. */
  async kill(): Promise<void> {
    this.finish({ kind: 'stopped' });
    await this.ended;
  }

  /** Ends the machine; the first end counts. May be called from within an exit, so the release happens in its own turn. */
  finish(end: MachineEnd): void {
    if (this.isOver) return;
    this.#end = end;
    this.#onFinish();
    this.terminal.disconnect();
    setImmediate(() => void this.#release(end));
  }

  async #release(end: MachineEnd): Promise<void> {
    let outcome = end;
    try {
      const released = this.cleanup.run();
      // A device that is broken may never drain; what it may still touch stays in place then.
      if (end.kind === 'bug')
        await Promise.race([released, sleep(BUG_RELEASE_MS, undefined, { ref: false })]);
      else await released;
    } catch (error) {
      // A disk that cannot be flushed: the guest may believe in data that is not there.
      const message = error instanceof Error ? error.message : String(error);
      outcome = { kind: 'kvm-error', message, registers: '' };
    }
    this.state = 'ended';
    this.#resolveEnded(outcome);
    this.events.emit('end', outcome);
  }
}
