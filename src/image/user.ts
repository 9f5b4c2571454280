/** User of an image's command: by number, or by name in the image's own passwd and group. */
import type { TsvmError } from '../errors.js';
import { readFileIn } from '../host/path-in.js';
import { ID_RANGE, MAX_GROUPS, parseId } from '../util/ids.js';
import { imageError } from './image-error.js';

export interface ImageUser {
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  /** Groups of /etc/group that have the user among their members; absent where there are none. */
  readonly groups?: readonly number[];
}

/** Image, or what holds its tables of users. */
export interface HasAccounts {
  /** Directory that etc/passwd and etc/group are below. */
  readonly root: string;
}

/** Tables of users, wherever they are. */
export interface Accounts {
  /** Name of what has them, for messages: `the image`. */
  readonly place: string;
  /** Reads a table; empty where there is none. */
  read(table: AccountTable): string;
}

/** Columns of passwd(5) and group(5) that are read. */
const ID_COLUMN = 2;
const GROUP_COLUMN = 3;
const HOME_COLUMN = 5;
const MEMBERS_COLUMN = 3;

/** Bound of a table, far more than any has; a file of an image's may have any size. */
export const MAX_TABLE_BYTES = 4 << 20;

/** Paths of the tables in an image. */
export const ACCOUNT_TABLES = ['etc/passwd', 'etc/group'] as const;

export type AccountTable = 'passwd' | 'group';
type Row = readonly string[];

/**
 * Looks up a user as an image's configuration or the command line has it: `uid`, `uid:gid`, `name`, `name:group`. As Docker does, one that
 * is in the image's passwd is in the groups that name it, unless a group is given.
 *
 * @throws TsvmError `TSVM_IMAGE` for a name that is not there, for ids that Linux does not have, wherever they stand, and for too many groups.
 */
export function userOf(image: HasAccounts, text: string): ImageUser {
  return userIn({ place: 'the image', read: (table) => readTable(image, table) }, text);
}

/** Looks up a user in tables as {@link userOf} does. */
export function userIn(accounts: Accounts, text: string): ImageUser {
  const { place } = accounts;
  const [name = '', group = '', ...rest] = text.split(':');
  if (rest.length > 0 || name === '')
    throw imageError(`user ${JSON.stringify(text)}: not a user of ${place}`, HINT);
  const row = find(accounts, 'passwd', name);
  const uid = row === undefined ? idOf(place, 'user', name) : idIn(place, 'passwd', row, ID_COLUMN);
  const home = row?.[HOME_COLUMN] || (uid === 0 ? '/root' : '/');
  if (group === '') {
    if (row === undefined) return { uid, gid: 0, home };
    return { uid, gid: idIn(place, 'passwd', row, GROUP_COLUMN), home, ...groupsOf(accounts, row[0] ?? '') };
  }
  const groupRow = find(accounts, 'group', group);
  return {
    uid,
    gid: groupRow === undefined ? idOf(place, 'group', group) : idIn(place, 'group', groupRow, ID_COLUMN),
    home,
  };
}

function groupsOf(accounts: Accounts, name: string): Pick<ImageUser, 'groups'> {
  const { place } = accounts;
  const rows = rowsOf(accounts, 'group').filter((row) => row[MEMBERS_COLUMN]?.split(',').includes(name));
  const groups = [...new Set(rows.map((row) => idIn(place, 'group', row, ID_COLUMN)))];
  if (groups.length > MAX_GROUPS) {
    throw imageError(
      `${quoted(name)} is in ${groups.length} groups of ${place}, more than ${MAX_GROUPS}`,
      'name one: --user NAME:GROUP',
    );
  }
  return groups.length === 0 ? {} : { groups };
}

const HINT = 'UID, UID:GID, NAME or NAME:GROUP: --user 1000:1000';
const isNumber = (text: string): boolean => /^\d+$/.test(text);

/** Row of a name or number; undefined for a number without one. */
function find(accounts: Accounts, table: AccountTable, name: string): Row | undefined {
  const id = parseId(name);
  const rows = rowsOf(accounts, table);
  const row = isNumber(name)
    ? rows.find((columns) => id !== undefined && parseId(columns[ID_COLUMN] ?? '') === id)
    : rows.find(([first]) => first === name);
  if (row === undefined && !isNumber(name)) {
    throw imageError(
      `there is no ${quoted(name)} in /etc/${table} of ${accounts.place}`,
      'a number needs no name: --user 1000',
    );
  }
  return row;
}

function idOf(place: string, what: string, text: string): number {
  const id = parseId(text);
  if (id === undefined) throw notAnId(`${what} ${text} of ${place}`);
  return id;
}

/** Id in a row. A column that is empty or too large is no reason to become the superuser. */
function idIn(place: string, table: AccountTable, row: Row, column: number): number {
  const id = parseId(row[column] ?? '');
  if (id === undefined) {
    throw notAnId(`${quoted(row[0] ?? '')} in /etc/${table} of ${place}: ${quoted(row[column] ?? '')}`);
  }
  return id;
}

function notAnId(what: string): TsvmError {
  return imageError(`${what} is not ${ID_RANGE}`, 'name another: --user 1000:1000');
}

/** Text of an image as it can be shown: without what a terminal would obey. */
function quoted(text: string): string {
  return `'${JSON.stringify(text).slice(1, -1)}'`;
}

function rowsOf(accounts: Accounts, table: AccountTable): readonly Row[] {
  return accounts
    .read(table)
    .split('\n')
    .map((line) => line.split(':'));
}

function readTable(image: HasAccounts, table: AccountTable): string {
  try {
    // Where a link of the image's leads, it leads in the image.
    return readFileIn(image.root, `etc/${table}`, MAX_TABLE_BYTES)?.toString('utf8') ?? '';
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw imageError(
      `cannot read /etc/${table} of the image: ${why}`,
      'an image with a table of users that can be read',
      cause,
    );
  }
}
