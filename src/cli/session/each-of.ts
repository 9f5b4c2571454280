/** Commands over several machines. */
import { TsvmError } from '../../errors.js';
import { complain } from '../complain.js';
import { inFlags } from '../flags.js';

/** All that can be done is done; what could not is said at the end, each in its line. */
export async function eachOf(
  machines: readonly string[],
  act: (name: string) => Promise<void>,
): Promise<void> {
  const errors: unknown[] = [];
  for (const name of machines) {
    try {
      await act(name);
    } catch (error) {
      errors.push(error);
    }
  }
  const [last, ...others] = errors.reverse();
  for (const error of others.reverse())
    complain(
      `tsvm: ${error instanceof TsvmError ? inFlags(error).message : error instanceof Error ? error.message : error}`,
    );
  if (last !== undefined) throw last;
}
