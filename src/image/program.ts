/** Programs of the host that images are unpacked and written with. */
import { TsvmError } from '../errors.js';
import { filterThrough } from '../host/program-filter.js';

/** Of what one lists: the names of a layer, the sizes of an image's files. */
const MAX_OUTPUT_BYTES = 256 << 20;
const NOTHING = new Uint8Array(0);

/**
 * Runs a program to its end, and returns what it wrote.
 *
 * @param complain - makes an error of the first line of what it said when it failed
 * @throws TsvmError `TSVM_HOST` if it is not installed, with the Debian package that has it.
 */
export async function outputOf(
  program: { readonly name: string; readonly debianPackage: string },
  args: readonly string[],
  complain: (complaint: string) => Error,
): Promise<string> {
  const { name, debianPackage } = program;
  // Names as they are, also those that are not ASCII.
  const env = { LC_ALL: 'C.UTF-8' };
  try {
    const filter = { command: [name, ...args] as const, debianPackage, purpose: 'for images', env };
    return Buffer.from(await filterThrough(filter, NOTHING, MAX_OUTPUT_BYTES)).toString('utf8');
  } catch (error) {
    throw error instanceof TsvmError
      ? error
      : complain(error instanceof Error ? error.message : String(error));
  }
}
