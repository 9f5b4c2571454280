/** Ways in which machines come into being. */
import type { Machine } from '../machine/machine.js';
import { openSavedMachine, type SavedMachine } from '../machine/restore.js';
import { makeMachine } from './firecracker/make-machine.js';
import type { Setup } from './firecracker/setup.js';

export interface Makers {
  /** Of a configuration; not started. @throws ApiError or TsvmError for what cannot be. */
  make(setup: Setup): Promise<Machine>;
  /** Of one that was saved. @throws TsvmError */
  open(directory: string): Promise<Pick<SavedMachine, 'restore' | typeof Symbol.asyncDispose>>;
}

export const kvmMakers: Makers = { make: makeMachine, open: openSavedMachine };
