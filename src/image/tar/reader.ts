/** Entries of a tar archive, each with what headers before it say of it, checked before anybody sees it. */
import { ID_RANGE, isId } from '../../util/ids.js';
import { imageError } from '../image-error.js';
import { BlockReader } from './block-reader.js';
import { BLOCK_BYTES, type Header, paddedLength, parseHeader, TYPE } from './format.js';
import { countEntry, countHeader, type Limits } from './limits.js';
import { checkName, shownName } from './name.js';
import { type PaxFacts, readPax, type Time } from './pax.js';
import { checkMap, readMapBefore, readOldMap, type SparsePiece } from './sparse.js';

/** Longest pax header or long name. An attribute has at most 64 KiB, and there are some. */
const MAX_EXTENSION_BYTES = 1 << 20;
/** Memory that an attribute takes besides its bytes, counted as if it were some. */
const ATTRIBUTE_BYTES = 256;
/** Most headers before the one of an entry; programs write up to four. */
const MAX_EXTENSIONS = 16;
/** Bound of what follows the end of an archive: programs fill up to a tape's block. */
const MAX_TRAILER_BYTES = 64 << 20;

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

export interface TarEntry {
  readonly kind: TarKind;
  /** Name as the archive has it; a character is a byte. */
  readonly name: string;
  /** Target of a link. */
  readonly link: string;
  /** Permissions, with suid and the like. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  /** Size of a file, holes included. */
  readonly sizeBytes: number;
  /** Reads a file's data, once; what is not read when the next entry is asked for is skipped. */
  data(): AsyncGenerator<Extent>;
}

/** Data of a file, and where it belongs; between extents are holes. */
export interface Extent {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Reads an archive. @throws TsvmError `TSVM_IMAGE` for what is no tar archive, is cut short, or is beyond the limits. */
export async function* readTar(pieces: AsyncIterable<Uint8Array>, limits: Limits): AsyncGenerator<TarEntry> {
  const input = new BlockReader(pieces);
  try {
    for (
      let next = await readEntry(input, limits);
      next !== undefined;
      next = await readEntry(input, limits)
    ) {
      const { entry, end } = next;
      if (entry !== undefined) yield entry;
      for await (const _ of input.pass(end - input.position));
    }
    await input.drain(MAX_TRAILER_BYTES);
  } finally {
    await input.close();
  }
}

/** What headers before an entry say of it. */
interface Before extends PaxFacts {
  longName?: string;
  longLink?: string;
}

interface Next {
  /** The entry; undefined if it is of a type that is left out. */
  readonly entry?: TarEntry;
  /** Position behind its data, whether that was read or not. */
  readonly end: number;
}

/** The next entry; undefined at the end. */
async function readEntry(input: BlockReader, limits: Limits): Promise<Next | undefined> {
  const before: Before = {};
  for (let extensions = 0; ; extensions++) {
    const block = await input.take(BLOCK_BYTES);
    if (block === undefined || isZero(block)) return undefined;
    const header = parseHeader(block);
    if (!EXTENSIONS.includes(header.type)) return await entryOf(input, header, before, limits);
    if (extensions === MAX_EXTENSIONS) throw imageError('an entry of it has too many headers');
    const bytes = await extension(input, header, limits);
    if (header.type === TYPE.pax) readPax(bytes, before);
    else if (header.type === TYPE.longName) before.longName = cString(bytes);
    else if (header.type === TYPE.longLink) before.longLink = cString(bytes);
    // A global header has comments; no program takes anything from it.
  }
}

const EXTENSIONS: readonly string[] = [TYPE.pax, TYPE.globalPax, TYPE.longName, TYPE.longLink];

async function entryOf(input: BlockReader, header: Header, before: Before, limits: Limits): Promise<Next> {
  // GNU tar gives sparse files other names, for programs that do not know them.
  const name = before.sparse?.name ?? before.path ?? (before.longName || header.name);
  const link = before.linkpath ?? (before.longLink || header.link);
  // Earlier than POSIX, a directory was a file whose name ends in a slash.
  const kind = header.type === TYPE.file && name.endsWith('/') ? 'directory' : KINDS[header.type];
  const sizes = await sizesOf(input, header, before, kind, name);
  checkName(name);
  checkName(link);
  if (kind === 'link' && link === '') throw imageError(`the link ${shownName(name)} leads nowhere`);
  const { uid, gid } = { uid: before.uid ?? header.uid, gid: before.gid ?? header.gid };
  for (const id of [uid, gid]) {
    if (!isId(id)) throw imageError(`the owner ${id} of ${shownName(name)} is not ${ID_RANGE}`);
  }
  countEntry(name, sizes.real, limits);
  const end = input.position + paddedLength(sizes.stored);
  if (kind === undefined) return { end };
  const { mode, mtime } = header;
  const facts = { mode: mode & 0o7777, uid, gid, mtime: before.mtime ?? { seconds: mtime, nanoseconds: 0 } };
  const xattrs = before.xattrs ?? NO_XATTRS;
  countHeader(ATTRIBUTE_BYTES * xattrs.size, limits);
  const data = () => extentsOf(input, sizes.map);
  return { entry: { kind, name, link, ...facts, xattrs, sizeBytes: sizes.real, data }, end };
}

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** Sizes of an entry's data in the archive, and as unpacked, and the map between both. */
interface Sizes {
  readonly stored: number;
  readonly real: number;
  readonly map: readonly SparsePiece[];
}

/** Reads what stands before an entry's data, if that is sparse. */
async function sizesOf(
  input: BlockReader,
  header: Header,
  before: Before,
  kind: TarKind | undefined,
  name: string,
): Promise<Sizes> {
  // No data follows what is no file, whatever the header says.
  if (kind !== undefined && kind !== 'file') return { stored: 0, real: 0, map: [] };
  const size = before.size ?? header.size;
  if (size < 0) throw imageError(`the size of ${shownName(name)} is negative`);
  const { sparse } = before;
  let map = sparse?.map;
  let stored = size;
  let real = sparse?.realSize ?? size;
  if (header.sparse !== undefined) {
    map = await readOldMap(input, header.sparse.map, header.sparse.more);
    real = header.sparse.realSize;
  } else if (sparse?.major === 1) {
    const before = await readMapBefore(input, size);
    map = before.map;
    stored = size - before.mapBytes;
  }
  if (map === undefined) return { stored, real: size, map: [{ offset: 0, length: size }] };
  checkMap(map, real, stored);
  return { stored, real, map };
}

async function* extentsOf(input: BlockReader, map: readonly SparsePiece[]): AsyncGenerator<Extent> {
  for (const { offset, length } of map) {
    let at = offset;
    for await (const bytes of input.pass(length)) {
      yield { offset: at, bytes };
      at += bytes.length;
    }
  }
}

async function extension(input: BlockReader, { size }: Header, limits: Limits): Promise<Buffer> {
  if (size < 0 || size > MAX_EXTENSION_BYTES) throw imageError('a header of it is too long');
  countHeader(size, limits);
  const bytes = await input.need(paddedLength(size));
  return Buffer.from(bytes.buffer, bytes.byteOffset, size);
}

function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}

const isZero = (block: Uint8Array): boolean => block[0] === 0 && block.every((byte) => byte === 0);
