/** Commands of an agent: their form, its check, and the strings of their request. */
import { TsvmError } from '../errors.js';
import {
  type Fields,
  FLAG,
  fieldProblem,
  isListOf,
  isRecord,
  isText,
  isWhole,
  optional,
  requireFields,
} from '../util/fields.js';
import { ID_RANGE, isId, MAX_GROUPS } from '../util/ids.js';
import { isVariableName } from '../util/variable-name.js';
import { type RequestOption, requestBytes } from './strings.js';

/** Resources of setrlimit(2), by the numbers that Linux has for them (include/uapi/asm-generic/resource.h). */
export const RESOURCES = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
} as const;

/** Limit of one resource; `Infinity` is none. */
export interface ResourceLimit {
  readonly soft: number;
  readonly hard: number;
}

/** Command that an agent executes: a program, its arguments, and what it is executed with. */
export interface AgentCommand {
  /** Program and arguments; without a slash the program is searched for in `PATH`. */
  readonly argv: readonly string[];
  /** Variables beside those that the agent has. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory. Default: the agent's. */
  readonly cwd?: string;
  /** Make `cwd` if it is missing, with what is missing above it. */
  readonly makeCwd?: boolean;
  /** Ids where the agent is; `groups`: those beside `gid`. Default: the agent's own. */
  readonly user?: { readonly uid: number; readonly gid: number; readonly groups?: readonly number[] };
  /** Give it a terminal, which is its input, output and error. Default false: three pipes. */
  readonly tty?: boolean;
  readonly rows?: number;
  readonly columns?: number;
  /** Limits of its resources. */
  readonly limits?: Readonly<Partial<Record<keyof typeof RESOURCES, ResourceLimit>>>;
  /** False: its input is at its end from the beginning. Default true. */
  readonly hasInput?: boolean;
  /** Nobody reads it: its last output is kept until it is attached to. Default false. */
  readonly detached?: boolean;
}

/** Rows or columns of a terminal (struct winsize). */
export const isTerminalSide = isWhole(0, 0xffff);
/** Signals of Linux. */
export const isSignal = isWhole(1, 64);
const SIDE = optional(['a whole number up to 65535', isTerminalSide]);
const isTexts = isListOf(isText);
/** RLIM64_INFINITY. */
const NO_LIMIT = '18446744073709551615';

const USER_FIELDS: Fields<NonNullable<AgentCommand['user']>> = {
  uid: [ID_RANGE, isId],
  gid: [ID_RANGE, isId],
  groups: optional([`a list of up to ${MAX_GROUPS} ids`, isListOf(isId, MAX_GROUPS)]),
};

const isAmount = (value: unknown): boolean => value === Number.POSITIVE_INFINITY || isWhole(0)(value);
const LIMIT_FIELDS: Fields<ResourceLimit> = {
  soft: ['a whole number, or Infinity', isAmount],
  hard: ['a whole number, or Infinity', isAmount],
};

const COMMAND_FIELDS: Fields<AgentCommand> = {
  argv: [
    'a list of strings, the first of which is a program',
    (value) => isTexts(value) && ((value as string[])[0] ?? '') !== '',
  ],
  env: optional(['an object of strings', (value) => isRecord(value) && isTexts(Object.values(value))]),
  cwd: optional(['a path', (value) => isText(value) && value !== '']),
  makeCwd: optional(FLAG),
  user: optional([
    `an object with uid and gid, each ${ID_RANGE}, and groups`,
    (value) => fieldProblem(value, USER_FIELDS) === undefined,
  ]),
  tty: optional(FLAG),
  rows: SIDE,
  columns: SIDE,
  limits: optional([
    `an object of limits with soft and hard, each a whole number or Infinity; their names: ${Object.keys(RESOURCES).join(', ')}`,
    (value) =>
      isRecord(value) &&
      Object.entries(value).every(
        ([name, limit]) => Object.hasOwn(RESOURCES, name) && fieldProblem(limit, LIMIT_FIELDS) === undefined,
      ),
  ]),
  hasInput: optional(FLAG),
  detached: optional(FLAG),
};

/**
 * Checks a command, also one that comes as data, and writes its request.
 *
 * @throws TsvmError `TSVM_CONFIG` for a field that is none or has another form, a variable whose name is none, a NUL, and for more than
 * fits into a request.
 */
export function commandRequest(command: AgentCommand): Buffer {
  requireFields(command, COMMAND_FIELDS, 'command', 'command.');
  const { argv, env = {} } = command;
  const badName = Object.keys(env).find((name) => !isVariableName(name));
  if (badName !== undefined)
    throw new TsvmError('TSVM_CONFIG', `command.env: ${JSON.stringify(badName)} is not a name`);
  return requestBytes('exec', optionsOf(command), argv);
}

function optionsOf(command: AgentCommand): RequestOption[] {
  const { cwd, makeCwd, user, tty, rows, columns, env = {}, limits = {}, hasInput, detached } = command;
  return [
    ...(cwd === undefined ? [] : [option('cwd', cwd)]),
    ...(cwd !== undefined && makeCwd === true ? [option('makecwd', 1)] : []),
    ...(user === undefined ? [] : [option('uid', user.uid), option('gid', user.gid)]),
    ...(user?.groups === undefined ? [] : [option('groups', [user.gid, ...user.groups].join())]),
    ...(tty === true ? [option('tty', 1)] : []),
    ...(rows === undefined ? [] : [option('rows', rows)]),
    ...(columns === undefined ? [] : [option('cols', columns)]),
    ...Object.entries(limits).map(([name, { soft, hard }]) =>
      option('rlimit', `${RESOURCES[name as keyof typeof RESOURCES]}:${amount(soft)}:${amount(hard)}`),
    ),
    ...Object.entries(env).map(([name, value]) => option('env', `${name}=${value}`)),
    ...(hasInput === false ? [option('input', 0)] : []),
    ...(detached === true ? [option('detached', 1)] : []),
  ];
}

const option = (name: string, value: string | number): RequestOption => [name, value];
const amount = (value: number): string => (value === Number.POSITIVE_INFINITY ? NO_LIMIT : `${value}`);
