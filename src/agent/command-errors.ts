/** Refusals of commands, as the caller is told of them. */
import { TsvmError } from '../errors.js';
import { printable } from '../util/printable.js';
import type { AgentCommand } from './command.js';
import { ERRNO, type Refusal } from './refusal.js';

/** Explains why a command was not executed, or is not read any more. */
export function commandRefused({ argv, cwd = '', user }: AgentCommand): (refusal: Refusal) => TsvmError {
  const program = printable(argv[0] ?? '');
  return ({ errno, what, error }) => {
    const refuse = (message: string, hint?: string): TsvmError =>
      new TsvmError('TSVM_COMMAND', `${program}: ${message}`, { hint, cause: error });
    switch (what) {
      case 'exec':
        return isMissing(errno) ? notFound(program, error) : notExecutable(program, errno, error);
      case 'cwd':
        return refuse(
          `its working directory ${printable(cwd)} cannot be entered: ${error.message}`,
          isMissing(errno)
            ? 'make the directory first, or name another one'
            : 'name a directory that its user may enter',
        );
      case 'user':
        return refuse(
          `it cannot run as user ${user?.uid ?? 0} and group ${user?.gid ?? 0}: ${error.message}`,
          'the ids are those of the machine or container; an agent without root is its own user only',
        );
      case 'rlimit':
        return refuse(`its limits cannot be set: ${error.message}`, 'soft limits are at most the hard ones');
      case 'processes':
        return refuse('the agent has too many commands', 'end some of them');
      case 'attach':
        return new TsvmError('TSVM_STATE', `${program}: somebody else has attached to it`, { cause: error });
      default:
        return errno === ERRNO.EINVAL
          ? unknown(what, error)
          : refuse(`it cannot be started: ${what}: ${error.message}`);
    }
  };
}

/** Explains why nothing was done with the command `id`. */
export function idRefused(id: number): (refusal: Refusal) => TsvmError {
  return ({ errno, what, error }) => {
    const refuse = (message: string, hint?: string): TsvmError =>
      new TsvmError('TSVM_STATE', `command ${id}: ${message}`, { hint, cause: error });
    if (errno === ERRNO.ESRCH)
      return refuse('there is none', 'it has ended some time ago, or the agent is another one');
    if (errno === ERRNO.EBUSY) return refuse('it runs, or is read', 'end it first');
    if (errno === ERRNO.EALREADY) return refuse('somebody else has attached to it');
    return errno === ERRNO.EINVAL ? unknown(what, error) : refuse(error.message);
  };
}

/** Explains why the agent does not do something that takes neither file nor command. */
export function askRefused({ errno, what, error }: Refusal): TsvmError {
  return errno === ERRNO.EINVAL
    ? unknown(what, error)
    : new TsvmError('TSVM_AGENT', `${what}: ${error.message}`, { cause: error });
}

const isMissing = (errno: number): boolean => errno === ERRNO.ENOENT || errno === ERRNO.ENOTDIR;

function notFound(program: string, cause: Error): TsvmError {
  return new TsvmError('TSVM_COMMAND_NOT_FOUND', `${program}: not found`, {
    hint: program.includes('/')
      ? 'the file is missing, or the interpreter or loader that it names'
      : 'it is in no directory of PATH; name its path, or install it',
    cause,
  });
}

function notExecutable(program: string, errno: number, cause: Error): TsvmError {
  const [message, hint] = NOT_EXECUTABLE[errno] ?? [cause.message];
  return new TsvmError('TSVM_COMMAND', `${program}: ${message}`, { hint, cause });
}

const NOT_EXECUTABLE: Readonly<Record<number, readonly [message: string, hint: string]>> = {
  [ERRNO.EACCES]: ['it is not executable', 'make it so with chmod +x, or name a program and not a directory'],
  [ERRNO.ENOEXEC]: [
    'it has no format that can be executed',
    'it is for another processor, or a script without #! in its first line',
  ],
  [ERRNO.E2BIG]: ['its arguments and variables are too long', 'put them into a file or standard input'],
};

function unknown(what: string, cause: Error): TsvmError {
  return new TsvmError(
    'TSVM_AGENT',
    `the agent does not know ${what === '' ? 'what it was asked for' : what}`,
    {
      hint: 'it is older than this tsvm: start the machine or container anew',
      cause,
    },
  );
}
