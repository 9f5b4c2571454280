/** A machine of what was asked for in Firecracker's words. */
import { createMachine } from '../../machine/create.js';
import type { Machine } from '../../machine/machine.js';
import { MIB } from '../../util/units.js';
import { configOf, limitCards, type Setup } from './setup.js';

/** Not started. @throws ApiError if there is nothing to boot, TsvmError for what cannot be. */
export async function makeMachine(setup: Setup): Promise<Machine> {
  // `boot_args` say all that is to be said of a console, if only by leaving it out.
  const machine = await createMachine({ ...(await configOf(setup)), namesConsole: false });
  try {
    machine.balloon?.setTarget((setup.balloon?.amount_mib ?? 0) * MIB);
    limitCards(machine.cards, setup['network-interfaces'] ?? []);
    return machine;
  } catch (error) {
    await machine.stop();
    throw error;
  }
}
