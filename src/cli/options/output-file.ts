/** Files that a command writes when its work is done: looked at before it begins. */
import { accessSync, constants, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { foundErrno, TsvmError } from '../../errors.js';
import { describeFileError } from '../../host/files.js';

/** Looks whether a file could be written. @throws TsvmError `TSVM_FILE` that begins with `cannot write` and `what`. */
export function lookAtOutputFile(path: string, what: string = path): void {
  refuseUnwritable(what, () => {
    const there = statSync(path, { throwIfNoEntry: false });
    if (there?.isDirectory() === true) throw foundErrno('EISDIR');
    // A name that ends in a slash, or in nothing, names no file that could be made.
    accessSync(there !== undefined || /(^|\/)$/.test(path) ? path : dirname(path), constants.W_OK);
  });
}

/** Writes a whole file. @throws TsvmError `TSVM_FILE` as {@link lookAtOutputFile}. */
export function writeOutputFile(path: string, text: string, what: string = path): void {
  refuseUnwritable(what, () => writeFileSync(path, text));
}

function refuseUnwritable(what: string, act: () => void): void {
  try {
    act();
  } catch (cause) {
    throw new TsvmError('TSVM_FILE', `cannot write ${what}: ${describeFileError(cause)}`, {
      hint: 'check the path',
      cause,
    });
  }
}
