/** A small typed event emitter whose subscriptions are disposable. A listener that throws does not stop the others. */
import type { Guard } from '../../util/guard.js';

export class Events<EventMap extends Record<string, unknown>> {
  readonly #listeners = new Map<keyof EventMap, Set<(payload: never) => void>>();
  readonly #guard: Guard;

  constructor(guard: Guard) {
    this.#guard = guard;
  }

  on<Name extends keyof EventMap>(name: Name, listener: (payload: EventMap[Name]) => void): Disposable {
    let listeners = this.#listeners.get(name);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(name, listeners);
    }
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  emit<Name extends keyof EventMap>(name: Name, payload: EventMap[Name]): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      const call = listener as (payload: EventMap[Name]) => void;
      this.#guard.run(`a listener for '${String(name)}'`, () => call(payload));
    }
  }
}
