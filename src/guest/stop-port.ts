/** The host's side of a port by which the guest's init is asked to end the machine (guests/README.md, "The stop port"). */
import type { PortControl, PortHost } from '../devices/backends/console.js';

/** Any byte does. */
const REQUEST = Uint8Array.of(1);

export class StopPort implements PortHost {
  #control: PortControl | undefined;
  #isOpen = false;

  connect(control: PortControl): void {
    this.#control = control;
  }

  onOpen(open: boolean): void {
    this.#isOpen = open;
  }

  onOutput(): boolean {
    return true;
  }

  onDrain(): void {}

  /** Returns false, and asks for nothing, if nobody listens. */
  request(): boolean {
    return this.#isOpen && this.#control?.input(REQUEST) === REQUEST.length;
  }
}
