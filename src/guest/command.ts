/** Form of a command: the strings that guests/init reads, in a file of the initramfs and in a message of the channel alike. */
import { writeCpio } from '../boot/cpio.js';
import { TsvmError } from '../errors.js';
import {
  type Field,
  type Fields,
  FLAG,
  fieldProblem,
  isListOf,
  isRecord,
  isText,
  isWhole,
  objectSchema,
  optional,
  requireFields,
} from '../util/fields.js';
import { S_IFDIR, S_IFREG } from '../util/file-mode.js';
import { ID_RANGE, isId, MAX_GROUPS } from '../util/ids.js';
import { isVariableName } from '../util/variable-name.js';
import { MAX_MESSAGE_BYTES } from './protocol.js';

/** Bound of a command that is sent: a message, with room for the facts that go with it. */
const MAX_SENT_BYTES = MAX_MESSAGE_BYTES - 512;
/** Bound of a command's words; guests/init/init.h: MAX_ARGS. */
const MAX_WORDS = 4096;
/** Bound of its variables beside those that init has itself; guests/init/init.c: MAX_ENV. */
const MAX_VARIABLES = 8192;
const OWN_VARIABLES: readonly string[] = ['PATH', 'HOME', 'TERM'];

/** A program that the guest's init runs instead of a shell. */
export interface GuestCommand {
  /** Program and arguments. Empty: an interactive shell. */
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Make `cwd` if it is missing, with what is missing above it. */
  readonly makeCwd?: boolean;
  /** Ids in the guest; `groups`: those beside `gid`, at most 1023. Default: 0, with the groups of init. */
  readonly user?: { readonly uid: number; readonly gid: number; readonly groups?: readonly number[] };
  /** Give the program a terminal with echo and line editing (true), or byte-exact output (false). Default true. */
  readonly tty?: boolean;
  readonly rows?: number;
  readonly columns?: number;
}

/** Rows or columns of a terminal (struct winsize). */
const CELLS: Field = ['a whole number up to 65535', isWhole(0, 0xffff), { type: 'integer' }];
const isTexts = isListOf(isText);
const ID: Field = [ID_RANGE, isId, { type: 'integer' }];
const USER_FIELDS: Fields<NonNullable<GuestCommand['user']>> = {
  uid: ID,
  gid: ID,
  groups: optional([
    `a list of up to ${MAX_GROUPS} ids`,
    isListOf(isId, MAX_GROUPS),
    { type: 'array', items: { type: 'integer' }, maxItems: MAX_GROUPS },
  ]),
};

/** Fields of a command. */
export const COMMAND_FIELDS: Fields<GuestCommand> = {
  argv: ['a list of strings', isTexts, { type: 'array', items: { type: 'string' } }],
  env: optional([
    'an object of strings',
    (value) => isRecord(value) && isTexts(Object.values(value)),
    { type: 'object', additionalProperties: { type: 'string' } },
  ]),
  cwd: optional(['a path', isText, { type: 'string' }]),
  makeCwd: optional(FLAG),
  user: optional([
    `an object with uid and gid, each ${ID_RANGE}, and groups`,
    (value) => fieldProblem(value, USER_FIELDS) === undefined,
    objectSchema(USER_FIELDS),
  ]),
  tty: optional(FLAG),
  rows: optional(CELLS),
  columns: optional(CELLS),
};

/**
 * Checks a command, also one that comes as data.
 *
 * @throws TsvmError `TSVM_CONFIG` for a field that is none or has another form, and for what init cannot take: a variable whose name is
 * none, a NUL, and more words or variables than it has room for.
 */
export function checkCommand(command: GuestCommand): void {
  requireFields(command, COMMAND_FIELDS, 'command', 'command.');
  const { argv, env = {} } = command;
  const names = Object.keys(env);
  const badName = names.find((name) => !isVariableName(name));
  if (badName !== undefined)
    throw new TsvmError('TSVM_CONFIG', `command.env: ${JSON.stringify(badName)} is not a name`);
  const bad = commandStrings(command).find((text) => text.includes('\0'));
  if (bad !== undefined)
    throw new TsvmError('TSVM_CONFIG', `command: there is a NUL in ${JSON.stringify(bad)}`);
  refuseMore(argv.length, MAX_WORDS, 'words');
  refuseMore(names.filter((name) => !OWN_VARIABLES.includes(name)).length, MAX_VARIABLES, 'variables');
}

/** Checks a command that is to be sent to a guest that waits for it. @throws TsvmError `TSVM_CONFIG` as {@link checkCommand}, and if it is too long. */
export function checkSentCommand(command: GuestCommand): void {
  checkCommand(command);
  refuseMore(
    Buffer.byteLength(commandStrings(command).join('\0')),
    MAX_SENT_BYTES,
    'bytes with its environment',
  );
}

function refuseMore(count: number, most: number, what: string): void {
  if (count <= most) return;
  throw new TsvmError('TSVM_CONFIG', `command: ${count} ${what}`, {
    hint: `no more than ${most} fit; put the rest into a file or standard input`,
  });
}

/** Strings of a command: options as guests/README.md lists them, `more` first; an empty string; the program and its arguments. */
export function commandStrings(
  { argv, env = {}, cwd, makeCwd, user, tty, rows, columns }: GuestCommand,
  more: readonly string[] = [],
): string[] {
  return [
    ...more,
    `tty=${tty === false ? 0 : 1}`,
    ...(rows === undefined ? [] : [`rows=${rows}`]),
    ...(columns === undefined ? [] : [`cols=${columns}`]),
    ...(cwd === undefined ? [] : [`cwd=${cwd}`]),
    ...(cwd !== undefined && makeCwd === true ? ['makecwd=1'] : []),
    ...(user === undefined ? [] : [`uid=${user.uid}`, `gid=${user.gid}`]),
    ...(user?.groups === undefined ? [] : [`groups=${[user.gid, ...user.groups]}`]),
    ...Object.entries(env).map(([name, value]) => `env=${name}=${value}`),
    '',
    ...argv,
  ];
}

/** Initramfs segment that tells init what to run: one file, `/.tsvm/command`. `command` has passed {@link checkCommand}. */
export function commandSegment(command: GuestCommand): Uint8Array {
  return writeCpio([
    { path: '.tsvm', mode: S_IFDIR | 0o755 },
    { path: '.tsvm/command', mode: S_IFREG | 0o644, data: terminated(commandStrings(command)) },
  ]);
}

/** Message of the channel: 32 bits of length, and the strings. */
export function framed(strings: readonly string[]): Buffer {
  const text = terminated(strings);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text]);
}

/** The strings, each ended by a NUL. */
function terminated(strings: readonly string[]): Buffer {
  return Buffer.from(strings.map((string) => `${string}\0`).join(''));
}
