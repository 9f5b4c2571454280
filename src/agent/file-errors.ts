/** Refusals of operations on files, as the caller is told of them. */
import { TsvmError } from '../errors.js';
import { type AgentPath, shownPath } from './path.js';
import type { Refusal } from './refusal.js';

interface Words {
  readonly message: string;
  readonly hint?: string;
}

const NO_PERMISSION: Words = {
  message: 'permission denied',
  hint: 'the agent has the rights of the user that it runs as, and of the file systems that are mounted',
};
const FULL: Words = {
  message: 'no space left on the device',
  hint: 'remove files there, or give it a larger disk',
};

/** What is said of errors by their code; all others are named as Linux has them. */
const WORDS: Readonly<Record<string, Words>> = {
  ENOENT: { message: 'no such file or directory' },
  EEXIST: { message: 'it is there already' },
  EISDIR: { message: 'it is a directory', hint: 'name a file, or copy the directory as a whole' },
  ENOTDIR: { message: 'a part of the path is not a directory' },
  ENOTEMPTY: { message: 'the directory is not empty', hint: 'remove it with all that is in it' },
  EACCES: NO_PERMISSION,
  EPERM: NO_PERMISSION,
  ENOSPC: FULL,
  EDQUOT: FULL,
  EROFS: { message: 'the file system is read-only', hint: 'write to one that is not, such as /tmp' },
  ELOOP: { message: 'too many symbolic links' },
  ENAMETOOLONG: { message: 'the path, or a name in it, is too long' },
  EXDEV: { message: 'it is on another file system', hint: 'copy it, and remove the old one' },
};

/** Explains refusals of one operation. @param doing - such as `read` */
export function fileRefused(doing: string, path: AgentPath): (refusal: Refusal) => TsvmError {
  return ({ error }) => {
    const { message, hint } = WORDS[(error as NodeJS.ErrnoException).code ?? ''] ?? {
      message: error.message,
    };
    return new TsvmError('TSVM_FILE', `cannot ${doing} ${shownPath(path)}: ${message}`, {
      hint,
      cause: error,
    });
  };
}
