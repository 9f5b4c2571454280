/**
 * Way to the agent of a machine (docs/agent.md): the guest's init says that it has the agent, has it run when it is asked to, and answers. After
 * that each connection is one to the agent's port of the vsock, made anew by each copy of the machine.
 */
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { TsvmError } from '../errors.js';
import { type Abortable, isAbort, untilAborted } from '../util/abort.js';
import { AGENT_PORT, MARK } from './protocol.js';

/** Time for a guest to boot and to answer, where each of its instructions is interpreted. */
const PATIENCE_MS = 60_000;
/** Attempts to connect: the second has it started anew, where init knows already that it has ended. */
const ATTEMPTS = 3;
const PAUSE_MS = 200;

/** Parts of a machine by which its agent is reached. */
export interface AgentWay {
  /** Asks init to have the agent run, which it answers with the mark `agent`. */
  ask(): void;
  /** Connects to a port of the guest's vsock. */
  connect(port: number, options: Abortable): Promise<Duplex>;
}

export class AgentDoor {
  readonly #way: AgentWay;
  #isThere: boolean | undefined;
  #isOver = false;
  #answers = 0;
  #running: Promise<void> | undefined;
  /** Looks of those who wait, one each; called when something has changed. */
  readonly #waiting = new Set<() => void>();

  constructor(way: AgentWay) {
    this.#way = way;
  }

  /** Tells whether the guest has the agent; undefined until its init has said. */
  get isThere(): boolean | undefined {
    return this.#isThere;
  }

  restore(isThere: boolean | undefined): void {
    this.#isThere = isThere;
  }

  onMark(code: number): void {
    if (code === MARK.AGENT) {
      this.#isThere = true;
      this.#answers++;
    } else if (code === MARK.READY || code === MARK.COMMAND) {
      // An init that has it says so before.
      this.#isThere ??= false;
    }
    this.#look();
  }

  /** The machine has ended. */
  onEnd(): void {
    this.#isOver = true;
    this.#look();
  }

  /** @throws TsvmError `TSVM_STATE` if the guest has no agent, or does not answer. */
  async dial({ signal }: Abortable = {}): Promise<Duplex> {
    await this.#until(() => this.#isThere !== undefined, signal);
    if (this.#isThere !== true) {
      throw new TsvmError('TSVM_STATE', 'the guest of this machine has no agent', {
        hint: 'its init is another one, or an older one: tsvm guest build makes one that has it',
      });
    }
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#connect(signal);
      } catch (error) {
        if (attempt === ATTEMPTS || isAbort(error, signal) || this.#isOver) throw error;
        if (attempt > 1) await sleep(PAUSE_MS, undefined, { signal });
      }
    }
  }

  async #connect(signal: AbortSignal | undefined): Promise<Duplex> {
    this.#running ??= this.#ask();
    const running = this.#running;
    await untilAborted(signal, () => running);
    try {
      return await greeted(await this.#way.connect(AGENT_PORT, { signal }), signal);
    } catch (cause) {
      // It has ended: init starts it anew, as soon as it knows.
      if (this.#running === running) this.#running = undefined;
      if (isAbort(cause, signal) || !(cause instanceof TsvmError) || cause.code !== 'TSVM_VSOCK') throw cause;
      throw new TsvmError('TSVM_STATE', 'the agent of this machine cannot be reached', {
        hint: 'it has ended, or has all the connections that it can have: see the machine’s console',
        cause,
      });
    }
  }

  /** Has init run it. */
  async #ask(): Promise<void> {
    const before = this.#answers;
    try {
      this.#way.ask();
      await this.#until(() => this.#answers > before);
    } catch (error) {
      this.#running = undefined;
      throw error;
    }
  }

  /** Waits until `holds`, no longer than a guest may need. */
  async #until(holds: () => boolean, signal?: AbortSignal): Promise<void> {
    let stop = (): void => {};
    const wait = () =>
      new Promise<void>((resolve, reject) => {
        const look = (): void => {
          if (this.#isOver) reject(new TsvmError('TSVM_STATE', 'the machine has ended'));
          else if (holds()) resolve();
          else return;
          stop();
        };
        const late = (): void => {
          stop();
          reject(
            new TsvmError(
              'TSVM_STATE',
              `the agent of this machine does not answer for ${PATIENCE_MS / 1000} s`,
              {
                hint: 'its guest has not booted yet, hangs, or has an init of its own, which runs no agent',
              },
            ),
          );
        };
        const timer = setTimeout(late, PATIENCE_MS);
        stop = () => {
          clearTimeout(timer);
          this.#waiting.delete(look);
        };
        this.#waiting.add(look);
        look();
      });
    await untilAborted(signal, wait, () => stop());
  }

  #look(): void {
    for (const look of this.#waiting) look();
  }
}

/**
 * Waits for the first bytes, which are the agent's greeting: one that is being killed has its port for a moment longer. They stay in the stream.
 *
 * @throws TsvmError `TSVM_VSOCK` if the connection ends before.
 */
async function greeted(stream: Duplex, signal: AbortSignal | undefined): Promise<Duplex> {
  let look = (): void => {};
  let lose = (): void => {};
  const greeting = (): Promise<void> =>
    new Promise((resolve, reject) => {
      look = () => {
        if (stream.readableLength > 0) resolve();
        else stream.read(0); // how its end is heard
      };
      lose = () => reject(new TsvmError('TSVM_VSOCK', 'vsock: the agent has ended'));
      stream.on('readable', look).on('error', lose).once('end', lose).once('close', lose);
    });
  try {
    await untilAborted(signal, greeting);
    return stream;
  } catch (error) {
    stream.on('error', () => {}).destroy();
    throw error;
  } finally {
    stream.off('readable', look).off('error', lose).off('end', lose).off('close', lose);
  }
}
