/** Saves a machine that goes on, and tells the person at the terminal. */
import { TsvmError } from '../../errors.js';
import type { Machine } from '../../machine/machine.js';
import { printable } from '../../util/printable.js';
import { formatBytes } from '../../util/units.js';
import { inFlags } from '../flags.js';

/** A save that takes longer than this says how far it has come. */
const QUIET_MS = 1000;
/** The terminal may be raw. */
const NEW_LINE = '\r\n';

/** Never rejects: a save that fails is no reason to end the machine. */
export async function saveWithProgress(
  machine: Machine,
  directory: string,
  differential: boolean,
): Promise<boolean> {
  const started = performance.now();
  let told = started;
  try {
    const { memoryBytes, pauseMs } = await machine.snapshot(directory, {
      differential,
      onProgress({ doneBytes, totalBytes }) {
        if (performance.now() - told < QUIET_MS) return;
        told = performance.now();
        say(`saving, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`);
      },
    });
    say(
      `saved in ${directory}: ${formatBytes(memoryBytes)}, the machine stood still for ${pauseMs.toFixed(0)} ms`,
    );
    return true;
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    const { message, hint } = inFlags(error);
    say(message);
    if (hint !== undefined) process.stderr.write(`hint: ${printable(hint)}${NEW_LINE}`);
    return false;
  }
}

function say(text: string): void {
  process.stderr.write(`tsvm: ${printable(text)}${NEW_LINE}`);
}
