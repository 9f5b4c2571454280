/** Ways in which machines come into being. */
import { createMachine } from '../machine/create.js';
import type { Machine } from '../machine/machine.js';
import { openSavedMachine } from '../machine/restore.js';
import { configOf } from '../machine/spec.js';
import type { Abortable } from '../util/abort.js';
import type { Draft } from './draft.js';
import type { Restorable } from './restore-for.js';

export interface Makers {
  /** Makes the machine of a draft, and does not start it. @throws ApiError or TsvmError for what cannot be. */
  make(draft: Draft, options?: Abortable): Promise<Machine>;
  /** Opens a machine that was saved. @throws TsvmError */
  open(directory: string): Promise<Restorable & AsyncDisposable>;
}

export const kvmMakers: Makers = { make, open: openSavedMachine };

async function make(draft: Draft, options?: Abortable): Promise<Machine> {
  const machine = await createMachine(configOf(await draft.spec()), options);
  try {
    draft.adjust?.(machine);
    return machine;
  } catch (error) {
    await machine.kill();
    throw error;
  }
}
