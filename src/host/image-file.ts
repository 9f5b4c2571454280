/** Image files that devices are given: opened if they are of a kind that the device takes, and raw. */
import type { Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { TsvmError, type TsvmErrorCode } from '../errors.js';
import { refuseForeignFormat } from './disk-format.js';
import { describeFileError, openChecked } from './files.js';

interface ImageRules {
  /** Role of the file, for messages: `disk`. */
  readonly what: string;
  readonly code: TsvmErrorCode;
  /** Flags of open(2). */
  readonly flags: number;
  /** Advice on a file that cannot be opened. */
  readonly hint: string;
  /** Throws for a file of a kind that the device does not take. */
  check(stats: Stats): void;
}

/**
 * Opens an image.
 *
 * @param warn - is told of a file that is another format's by its content only
 * @throws TsvmError of the rules' code, naming the path.
 */
export async function openImage(
  path: string,
  { what, code, flags, hint, check }: ImageRules,
  warn?: (text: string) => void,
): Promise<FileHandle> {
  let file: FileHandle | undefined;
  try {
    file = await openChecked(path, flags, check);
    await refuseForeignFormat(file, { code, subject: `${what} ${path}`, path }, warn);
    return file;
  } catch (cause) {
    await file?.close();
    if (cause instanceof TsvmError) throw cause;
    throw new TsvmError(code, `cannot open ${what} ${path}: ${describeFileError(cause)}`, { hint, cause });
  }
}
