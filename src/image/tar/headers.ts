/** Facts that the headers of an entry give together: its own, and those before it. */
import { imageError } from '../image-error.js';
import { type Header, TYPE } from './format.js';
import { type PaxFacts, readPax } from './pax.js';

/** Bound of the headers before the one of an entry; programs write up to four. */
const MAX_EXTENSIONS = 16;
const EXTENSIONS: readonly string[] = [TYPE.pax, TYPE.globalPax, TYPE.longName, TYPE.longLink];

export type TarKind = 'file' | 'hard-link' | 'link' | 'directory' | 'fifo' | 'device';

/** Kinds of entries. Those of types that only some programs know are left out. */
const KINDS: Readonly<Record<string, TarKind>> = {
  [TYPE.file]: 'file',
  [TYPE.contiguous]: 'file',
  [TYPE.sparse]: 'file',
  [TYPE.hardLink]: 'hard-link',
  [TYPE.symbolicLink]: 'link',
  [TYPE.characterDevice]: 'device',
  [TYPE.blockDevice]: 'device',
  [TYPE.directory]: 'directory',
  [TYPE.fifo]: 'fifo',
};

/** Facts of an entry from the headers before its own. */
export interface Before extends PaxFacts {
  /** Number of them. */
  count?: number;
  longName?: string;
  longLink?: string;
}

/** Tells a header that says something of the entry behind it. */
export const isExtension = ({ type }: Header): boolean => EXTENSIONS.includes(type);

/** Adds what one of the headers before an entry says. @throws TsvmError if it is damaged, or there are too many. */
export function addExtension(before: Before, { type }: Header, bytes: Buffer): void {
  before.count = (before.count ?? 0) + 1;
  if (before.count > MAX_EXTENSIONS) throw imageError('an entry of it has too many headers');
  if (type === TYPE.pax) readPax(bytes, before);
  else if (type === TYPE.longName) before.longName = cString(bytes);
  else if (type === TYPE.longLink) before.longLink = cString(bytes);
  // A global header has comments; no program takes anything from it.
}

export function nameOf(header: Header, before: Before): string {
  return before.path ?? (before.longName || header.name);
}

/** Target of a link. */
export function linkOf(header: Header, before: Before): string {
  return before.linkpath ?? (before.longLink || header.link);
}

/** Kind of an entry; undefined for a type that is not known. */
export function kindOf({ type }: Header, name: string): TarKind | undefined {
  // Earlier than POSIX, a directory was a file whose name ends in a slash.
  return type === TYPE.file && name.endsWith('/') ? 'directory' : KINDS[type];
}

/** Length of the data behind an entry's header. No data follows what is no file, whatever the header says. */
export function dataBytesOf(kind: TarKind | undefined, header: Header, before: Before): number {
  return kind !== undefined && kind !== 'file' ? 0 : (before.size ?? header.size);
}

function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}
