/** Restores a saved machine for a request of the API. */
import { TsvmError } from '../errors.js';
import type { GuestFacts } from '../guest/facts.js';
import type { Machine } from '../machine/machine.js';
import type { RestoreOptions, SavedMachine } from '../machine/restore.js';
import type { Abortable } from '../util/abort.js';
import { printable } from '../util/printable.js';
import { ApiError } from './api-error.js';
import type { SlotBindings } from './pool-request.js';

/** Part of a saved machine that serves to restore it. */
export interface Restorable extends Pick<SavedMachine, 'config' | 'wishes'> {
  restore(options: RestoreOptions): Promise<Machine>;
}

/** Bindings of a request that restores a saved machine, which gets nothing else of the host. */
export interface Grant extends Abortable {
  readonly devices: SlotBindings;
  /** Field of the request that `devices` came in. */
  readonly field: string;
  readonly facts: GuestFacts;
  onBind(slot: string, text: string): void;
}

/** @throws ApiError with the JSON that is missing, if the machine asks for more of the host than `devices` name. */
export async function restoreFor(
  saved: Restorable,
  { devices, field, facts, onBind, signal }: Grant,
): Promise<Machine> {
  try {
    return await saved.restore({ devices, facts, onBind, signal });
  } catch (error) {
    if (!(error instanceof TsvmError) || error.code !== 'TSVM_BINDING') throw error;
    const wishes = await saved.wishes({ devices });
    const missing = Object.fromEntries(wishes.map(({ slot, binding }) => [slot, binding]));
    throw new ApiError(
      `${error.message}; add to the request what it may have: "${field}": ${printable(JSON.stringify({ ...devices, ...missing }))}`,
    );
  }
}
