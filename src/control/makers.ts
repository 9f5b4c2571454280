/** Ways in which machines come into being. */
import type { Machine } from '../machine/machine.js';
import { openSavedMachine } from '../machine/restore.js';
import { makeMachine } from './firecracker/make-machine.js';
import type { Setup } from './firecracker/setup.js';
import type { Restorable } from './restore-for.js';

export interface Makers {
  /** Makes a machine of a configuration, and does not start it. @throws ApiError or TsvmError for what cannot be. */
  make(setup: Setup): Promise<Machine>;
  /** Opens a machine that was saved. @throws TsvmError */
  open(directory: string): Promise<Restorable & AsyncDisposable>;
}

export const kvmMakers: Makers = { make: makeMachine, open: openSavedMachine };
