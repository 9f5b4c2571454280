/** Records of a pax header: who, when, and attributes, exactly, and names of any length. */
import { imageError } from '../image-error.js';
import { damagedMap, piecesOf, type SparsePiece } from './sparse.js';

/** Longest record, with its own length before it. */
const LENGTH = /^[1-9]\d{0,9}$/;
/** Bounds of Linux for an extended attribute (XATTR_NAME_MAX, XATTR_SIZE_MAX of linux/limits.h). */
const MAX_XATTR_NAME_BYTES = 255;
const MAX_XATTR_BYTES = 65_536;
/** <linux/xattr.h>: the privileges of a program. */
export const CAPABILITY_XATTR = 'security.capability';

/** Facts of the entry that follows; absent where the entry's own header has them. */
export interface PaxFacts {
  path?: string;
  linkpath?: string;
  uid?: number;
  gid?: number;
  size?: number;
  mtime?: Time;
  xattrs?: Map<string, Uint8Array>;
  sparse?: PaxSparse;
}

export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** Map of a sparse file. Version 1.0 has it before the data, the others here. */
export interface PaxSparse {
  name?: string;
  realSize?: number;
  major?: number;
  map?: SparsePiece[];
  /** Offset of a piece whose length comes in the next record (version 0.0). */
  offset?: number;
}

/** Adds the records of a header to `facts`: the last of a name counts. @throws TsvmError if they are damaged. */
export function readPax(bytes: Buffer, facts: PaxFacts): void {
  for (let at = 0; at < bytes.length; ) {
    const blank = bytes.indexOf(' ', at);
    const digits = bytes.toString('latin1', at, Math.min(blank, at + 11));
    const end = at + Number(digits);
    const equals = bytes.indexOf('=', blank);
    const whole = blank > at && LENGTH.test(digits) && end <= bytes.length && bytes[end - 1] === 0x0a;
    if (!whole || equals < 0 || equals >= end) throw imageError('a pax header of it is damaged');
    addRecord(facts, bytes.toString('latin1', blank + 1, equals), bytes.subarray(equals + 1, end - 1));
    at = end;
  }
}

function addRecord(facts: PaxFacts, key: string, value: Buffer): void {
  const attribute = attributeOf(key);
  if (attribute !== undefined) {
    addAttribute(facts, attribute, key.startsWith(LIBARCHIVE) ? base64(value) : Buffer.from(value));
    return;
  }
  // POSIX: a record without a value is as if it were not there.
  if (value.length === 0 && !key.startsWith('GNU.sparse.')) return;
  switch (key) {
    case 'path':
    case 'linkpath':
      facts[key] = value.toString('latin1');
      break;
    case 'uid':
    case 'gid':
    case 'size':
      facts[key] = numberOf(key, value);
      break;
    case 'mtime': {
      const time = timeOf(value.toString('latin1'));
      if (time !== undefined) facts.mtime = time;
      break;
    }
    default:
      if (key.startsWith('GNU.sparse.')) {
        facts.sparse ??= {};
        addSparse(facts.sparse, key, value);
      }
  }
}

function addSparse(sparse: PaxSparse, key: string, value: Buffer): void {
  switch (key) {
    case 'GNU.sparse.name':
      sparse.name = value.toString('latin1');
      break;
    case 'GNU.sparse.major':
      sparse.major = numberOf(key, value);
      break;
    case 'GNU.sparse.size':
    case 'GNU.sparse.realsize':
      sparse.realSize = numberOf(key, value);
      break;
    case 'GNU.sparse.numblocks':
      sparse.map ??= [];
      break;
    case 'GNU.sparse.offset':
      sparse.offset = numberOf(key, value);
      break;
    case 'GNU.sparse.numbytes':
      if (sparse.offset === undefined) throw damagedMap();
      sparse.map ??= [];
      sparse.map.push({ offset: sparse.offset, length: numberOf(key, value) });
      break;
    case 'GNU.sparse.map':
      sparse.map = mapOf(value);
      break;
  }
}

/** Numbers of a map, `OFFSET,LENGTH,...`. */
function mapOf(value: Buffer): SparsePiece[] {
  if (value.length === 0) return [];
  const numbers = value
    .toString('latin1')
    .split(',')
    .map((text) => numberOf('GNU.sparse.map', text));
  return piecesOf(numbers);
}

function numberOf(key: string, value: Buffer | string): number {
  const text = value.toString('latin1');
  if (!/^\d{1,15}$/.test(text)) throw imageError(`the ${key} of an entry is not a number`);
  return Number(text);
}

/** Seconds with a fraction, also of before 1970. */
function timeOf(text: string): Time | undefined {
  const [, sign, whole = '', fraction = ''] = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(text) ?? [];
  if (whole === '') return undefined;
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign !== '-') return { seconds: Number(whole), nanoseconds };
  if (nanoseconds === 0) return { seconds: 0 - Number(whole), nanoseconds };
  return { seconds: -1 - Number(whole), nanoseconds: 1_000_000_000 - nanoseconds };
}

const SCHILY = 'SCHILY.xattr.';
const LIBARCHIVE = 'LIBARCHIVE.xattr.';

/** Name of the attribute that a record sets, if it is one that is kept: a user's, or a program's capabilities. */
function attributeOf(key: string): string | undefined {
  const name = key.startsWith(SCHILY)
    ? key.slice(SCHILY.length)
    : key.startsWith(LIBARCHIVE)
      ? percentDecoded(key.slice(LIBARCHIVE.length))
      : '';
  if (name === CAPABILITY_XATTR) return name;
  // What of an overlay is hidden or elsewhere is said by layers' own marks.
  return name.startsWith('user.') && !name.startsWith('user.overlay.') ? name : undefined;
}

function addAttribute(facts: PaxFacts, name: string, value: Uint8Array): void {
  if (name.includes('\0') || name.length > MAX_XATTR_NAME_BYTES || value.length > MAX_XATTR_BYTES)
    throw imageError('an attribute of an entry is longer than Linux has any');
  facts.xattrs ??= new Map();
  facts.xattrs.set(name, value);
}

const base64 = (value: Buffer): Buffer => Buffer.from(value.toString('latin1'), 'base64');

function percentDecoded(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
}
