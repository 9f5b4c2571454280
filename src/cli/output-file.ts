/** Files that a command writes when its work is done: looked at before it begins. */
import { accessSync, constants, statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';

/** Looks whether a file could be written. @throws TsvmError `TSVM_FILE` that begins with `cannot write` and `what`. */
export function lookAtOutputFile(path: string, what: string = path): void {
  refuseUnwritable(what, () => {
    const there = statSync(path, { throwIfNoEntry: false });
    if (there?.isDirectory() === true) throw Object.assign(new Error(), { errno: 0, code: 'EISDIR' });
    accessSync(there === undefined ? dirname(resolve(path)) : path, constants.W_OK);
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
