/** Form of a command: the strings that guests/init reads, in a file of the initramfs and in a message of the channel alike. */
import { writeCpio } from '../boot/cpio.js';
import { TsvmError } from '../errors.js';
import { S_IFDIR, S_IFREG } from '../util/file-mode.js';
import { ID_RANGE, isId } from '../util/ids.js';
import { isVariableName } from '../util/variable-name.js';
import { MAX_MESSAGE_BYTES } from './protocol.js';

/** A program that the guest's init runs instead of a shell. */
export interface GuestCommand {
  /** Program and arguments. Empty: an interactive shell. */
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Ids in the guest. Default: 0, with the groups of init. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Give the program a terminal with echo and line editing (true), or byte-exact output (false). Default true. */
  readonly tty?: boolean;
  readonly rows?: number;
  readonly columns?: number;
}

/**
 * Strings of a command: options as guests/README.md lists them, `more` first; an empty string; the program and its arguments.
 *
 * @throws TsvmError `TSVM_CONFIG` for ids that Linux does not have, and for a variable whose name is none.
 */
export function commandStrings(command: GuestCommand, more: readonly string[] = []): string[] {
  const options = [...more, `tty=${command.tty === false ? 0 : 1}`];
  if (command.rows !== undefined) options.push(`rows=${command.rows}`);
  if (command.columns !== undefined) options.push(`cols=${command.columns}`);
  if (command.cwd !== undefined) options.push(`cwd=${command.cwd}`);
  if (command.user !== undefined) {
    const { uid, gid } = command.user;
    if (!isId(uid) || !isId(gid))
      throw new TsvmError('TSVM_CONFIG', `command.user: ${uid}:${gid}: each must be ${ID_RANGE}`);
    options.push(`uid=${uid}`, `gid=${gid}`);
  }
  for (const [name, value] of Object.entries(command.env ?? {})) {
    if (!isVariableName(name))
      throw new TsvmError('TSVM_CONFIG', `command.env: ${JSON.stringify(name)} is not a name`);
    options.push(`env=${name}=${value}`);
  }
  return [...options, '', ...command.argv];
}

/**
 * Initramfs segment that tells init what to run: one file, `/.tsvm/command`.
 *
 * @throws TsvmError `TSVM_CONFIG` as {@link commandStrings}, and for a NUL in a string.
 */
export function commandSegment(command: GuestCommand): Uint8Array {
  return writeCpio([
    { path: '.tsvm', mode: S_IFDIR | 0o755 },
    { path: '.tsvm/command', mode: S_IFREG | 0o644, data: terminated(commandStrings(command)) },
  ]);
}

/** Message of the channel: 32 bits of length, and the strings. @throws TsvmError `TSVM_CONFIG` if it is too long, or has a NUL in a string. */
export function framed(strings: readonly string[]): Buffer {
  const text = terminated(strings);
  if (text.length > MAX_MESSAGE_BYTES) {
    throw new TsvmError('TSVM_CONFIG', `command: ${text.length} bytes with its environment`, {
      hint: `no more than ${MAX_MESSAGE_BYTES} fit; put the rest into a file or standard input`,
    });
  }
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text]);
}

/** The strings, each ended by a NUL. */
function terminated(strings: readonly string[]): Buffer {
  const bad = strings.find((text) => text.includes('\0'));
  if (bad !== undefined)
    throw new TsvmError('TSVM_CONFIG', `command: there is a NUL in ${JSON.stringify(bad)}`);
  return Buffer.from(strings.map((string) => `${string}\0`).join(''));
}
