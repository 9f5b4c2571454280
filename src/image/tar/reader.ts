/** Entries of a tar archive, each with what headers before it say of it, checked before anybody sees it. */
import { ID_RANGE, isId } from '../../util/ids.js';
import { imageError } from '../image-error.js';
import { BlockReader } from './block-reader.js';
import { BLOCK_BYTES, type Header, paddedLength, parseHeader } from './format.js';
import {
  addExtension,
  type Before,
  dataBytesOf,
  isExtension,
  kindOf,
  linkOf,
  nameOf,
  type TarKind,
} from './headers.js';
import { countEntry, countHeader, type Limits } from './limits.js';
import { checkName, shownName } from './name.js';
import type { Time } from './pax.js';
import { checkMap, type Extent, readMapBefore, readOldMap, type SparsePiece } from './sparse.js';

/** Longest pax header or long name. An attribute has at most 64 KiB, and there are some. */
const MAX_EXTENSION_BYTES = 1 << 20;
/** Memory that an attribute takes besides its bytes, counted as if it were some. */
const ATTRIBUTE_BYTES = 256;
/** Bound of what follows the end of an archive: programs fill up to a tape's block. */
const MAX_TRAILER_BYTES = 64 << 20;

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

interface Next {
  /** Entry; undefined if it is of a type that is left out. */
  readonly entry?: TarEntry;
  /** Position behind its data, whether that was read or not. */
  readonly end: number;
}

/** Reads the next entry; undefined at the end. */
async function readEntry(input: BlockReader, limits: Limits): Promise<Next | undefined> {
  const before: Before = {};
  for (;;) {
    const block = await input.take(BLOCK_BYTES);
    if (block === undefined || isZero(block)) return undefined;
    const header = parseHeader(block);
    if (!isExtension(header)) return await entryOf(input, header, before, limits);
    addExtension(before, header, await extension(input, header, limits));
  }
}

async function entryOf(input: BlockReader, header: Header, before: Before, limits: Limits): Promise<Next> {
  // GNU tar gives sparse files other names, for programs that do not know them.
  const name = before.sparse?.name ?? nameOf(header, before);
  const link = linkOf(header, before);
  const kind = kindOf(header, name);
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
  const size = dataBytesOf(kind, header, before);
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

const isZero = (block: Uint8Array): boolean => block[0] === 0 && block.every((byte) => byte === 0);
