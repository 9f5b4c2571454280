/** Connections that wait for an answer of the guest's, all for the same time: one timer serves them all. */
import type { Clock } from '../../util/clock.js';
import type { Connection } from './connection.js';

/**
 * For a RESPONSE to a REQUEST, or a RST to a SHUTDOWN of both sides (virtio 1.3, 5.10.6.5: "an implementation-specific amount
 * of time"). What Linux waits for the latter; a guest whose kernel is interpreted answers within a second.
 */
export const ANSWER_MS = 8000;

export class Waiting {
  readonly #clock: Clock;
  readonly #onTimeout: (connection: Connection) => void;
  /** In the order of their deadlines. */
  readonly #connections = new Set<Connection>();
  #callOff: (() => void) | undefined;

  constructor(clock: Clock, onTimeout: (connection: Connection) => void) {
    this.#clock = clock;
    this.#onTimeout = onTimeout;
  }

  add(connection: Connection): void {
    connection.deadlineMs = this.#clock.nowMs() + ANSWER_MS;
    this.#connections.delete(connection);
    this.#connections.add(connection);
    this.#callOff ??= this.#clock.after(ANSWER_MS, () => this.#check());
  }

  remove(connection: Connection): void {
    if (!this.#connections.delete(connection) || this.#connections.size > 0) return;
    this.#callOff?.();
    this.#callOff = undefined;
  }

  #check(): void {
    this.#callOff = undefined;
    const now = this.#clock.nowMs();
    for (const connection of this.#connections) {
      if (connection.deadlineMs > now) {
        this.#callOff = this.#clock.after(connection.deadlineMs - now, () => this.#check());
        return;
      }
      this.#connections.delete(connection);
      this.#onTimeout(connection);
    }
  }
}
