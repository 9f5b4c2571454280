/**
 * Headers of tar archives as they are written: ustar, with a pax header before it for what ustar has no room for.
 *
 * @spec posix-2017 "pax"  Interchange formats ustar and pax  #yes
 */
import { BLOCK_BYTES, paddedLength, TYPE } from '../image/tar/format.js';

/** Entry of an archive that is written. Names are bytes. */
export interface TarFacts {
  readonly type: string;
  readonly name: Buffer;
  readonly link?: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  /** Number of a device, as Linux's `makedev` has it. */
  readonly device?: number;
}

const NAME_BYTES = 100;
/** Greatest numbers of fields of 7 and 11 octal digits. */
const MAX_SHORT = 0o7777777;
const MAX_LONG = 0o77777777777;

/** Blocks of an entry before its data. */
export function tarHeader(facts: TarFacts): Buffer {
  const records = paxRecords(facts);
  const own = header(facts, facts.type, facts.name, facts.size);
  if (records.length === 0) return own;
  const of: TarFacts = {
    type: TYPE.pax,
    name: Buffer.from('PaxHeader'),
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: records.length,
    mtime: { seconds: 0, nanoseconds: 0 },
  };
  return Buffer.concat([header(of, of.type, of.name, of.size), records, tarPadding(records.length), own]);
}

/** Zeros that fill the last block of `bytes` bytes. */
export const tarPadding = (bytes: number): Buffer => Buffer.alloc(paddedLength(bytes) - bytes);

/** End of an archive. */
export const TAR_END_BYTES = 2 * BLOCK_BYTES;

function paxRecords({ name, link, uid, gid, size, mtime }: TarFacts): Buffer {
  const isNamed = (bytes: Buffer): boolean =>
    bytes.length <= NAME_BYTES && bytes.every((byte) => byte < 0x80);
  const records: Buffer[] = [];
  const add = (key: string, value: Buffer | string): void =>
    void records.push(record(key, Buffer.from(value)));
  const bytesInNames = !isUtf8(name) || (link !== undefined && !isUtf8(link));
  if (bytesInNames) add('hdrcharset', 'BINARY');
  if (!isNamed(name)) add('path', name);
  if (link !== undefined && !isNamed(link)) add('linkpath', link);
  if (uid > MAX_SHORT) add('uid', `${uid}`);
  if (gid > MAX_SHORT) add('gid', `${gid}`);
  if (size > MAX_LONG) add('size', `${size}`);
  if (mtime.nanoseconds !== 0 || mtime.seconds < 0 || mtime.seconds > MAX_LONG) add('mtime', timeText(mtime));
  return Buffer.concat(records);
}

function isUtf8(bytes: Buffer): boolean {
  return Buffer.from(bytes.toString()).equals(bytes);
}

/** Decimal fraction; before 1970 it is that of the magnitude. */
function timeText({ seconds, nanoseconds }: TarFacts['mtime']): string {
  const isBefore = seconds < 0;
  const whole = isBefore && nanoseconds > 0 ? -(seconds + 1) : Math.abs(seconds);
  const fraction = isBefore && nanoseconds > 0 ? 1_000_000_000 - nanoseconds : nanoseconds;
  return `${isBefore ? '-' : ''}${whole}.${`${fraction}`.padStart(9, '0')}`;
}

/** Record, whose length counts its own digits. */
function record(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
  return Buffer.concat([Buffer.from(`${length}`), rest]);
}

function header(facts: TarFacts, type: string, name: Buffer, size: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  };
  const fitting = (value: number, most: number): number => (value < 0 || value > most ? 0 : value);
  name.copy(block, 0, 0, NAME_BYTES);
  octal(facts.mode & 0o7777, 100, 8);
  octal(fitting(facts.uid, MAX_SHORT), 108, 8);
  octal(fitting(facts.gid, MAX_SHORT), 116, 8);
  octal(fitting(size, MAX_LONG), 124, 12);
  octal(fitting(facts.mtime.seconds, MAX_LONG), 136, 12);
  block.write(type, 156, 'latin1');
  facts.link?.copy(block, 157, 0, NAME_BYTES);
  block.write('ustar\u000000', 257, 'latin1');
  const device = facts.device ?? 0;
  octal(fitting(majorOf(device), MAX_SHORT), 329, 8);
  octal(fitting(minorOf(device), MAX_SHORT), 337, 8);
  block.write(' '.repeat(8), 148);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return block;
}

/** Parts of a device's number (glibc's gnu_dev_major and gnu_dev_minor). */
export const majorOf = (device: number): number => Math.floor(device / 2 ** 8) % 2 ** 12;
export const minorOf = (device: number): number =>
  (device % 2 ** 8) + (Math.floor(device / 2 ** 20) % 2 ** 12) * 2 ** 8;
