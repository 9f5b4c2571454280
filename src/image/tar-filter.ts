/**
 * Layers of images as archives of one form: an entry is read, judged and written anew, so that what unpacks it finds nothing that was not
 * judged. Only files, directories, links and FIFOs pass, of their attributes only what is a program's or a user's.
 */
import { ID_RANGE, isId } from '../util/ids.js';
import { imageError } from './image-error.js';
import {
  BLOCK_BYTES,
  formatHeader,
  type Header,
  paddedLength,
  parseHeader,
  parsePax,
  parseSparseBlock,
  TYPE,
} from './tar-format.js';

/** Longest pax header or long name. An attribute has at most 64 KiB, and there are some. */
const MAX_EXTENSION_BYTES = 1 << 20;
/** Longest map of a sparse file. */
const MAX_SPARSE_NUMBERS = 1 << 20;

/**
 * Longest name of an entry: with the store's folder before it, it is still shorter than Linux's PATH_MAX (4096), so that every program can name
 * what was unpacked.
 */
const MAX_NAME_BYTES = 3 * 1024;
/** Deepest that an entry lies, since each entry costs system calls for every folder above it. Images have some thirty, at the most. */
const MAX_DEPTH = 256;

/** Characters of a name that is too long that a message has. */
const SHOWN_CHARACTERS = 40;

/** Types that are unpacked: no devices, and none that only some programs know. */
const PASSED: readonly string[] = [TYPE.file, TYPE.hardLink, TYPE.symbolicLink, TYPE.directory, TYPE.fifo];
/** Types that no data follows, whatever the header says. */
const WITHOUT_DATA: readonly string[] = [
  ...[TYPE.hardLink, TYPE.symbolicLink, TYPE.directory, TYPE.fifo],
  ...[TYPE.characterDevice, TYPE.blockDevice],
];

/** Bounds of all layers of an image together. */
export interface Limits {
  entries: number;
  /** Sizes of files, holes included. */
  bytes: number;
}

export interface FilterOptions {
  /** Right of the superuser: attributes that give a program rights are kept. */
  readonly superuser: boolean;
  /** Bounds of what is left to come, counted down. */
  readonly limits: Limits;
  /** Names of files that say that something of a layer below is gone; they never pass. */
  onMark?(path: string): void;
}

export const MARK = '.wh.';

/** Filters an archive. @throws TsvmError `TSVM_IMAGE` for what is no tar archive, is cut short, or is beyond the limits. */
export async function* filterTar(
  pieces: AsyncIterable<Uint8Array>,
  options: FilterOptions,
): AsyncGenerator<Uint8Array> {
  const input = new BlockReader(pieces);
  const left = new Set<string>();
  for (let entry = await readEntry(input); entry !== undefined; entry = await readEntry(input)) {
    count(entry, options.limits);
    const path = normalized(entry.name);
    const parts = path.split('/');
    if (parts.at(-1)?.startsWith(MARK)) options.onMark?.(path);
    const passes =
      PASSED.includes(entry.type) &&
      entry.name !== '' &&
      !(parts[0] === 'dev' && parts.length > 1) &&
      !parts.some((part) => part.startsWith(MARK)) &&
      !(entry.type === TYPE.hardLink && left.has(normalized(entry.link)));
    if (passes) yield formatHeader(entry, paxOf(entry, options.superuser));
    else left.add(path);
    for await (const piece of input.pass(paddedLength(entry.size))) if (passes) yield piece;
  }
  yield new Uint8Array(2 * BLOCK_BYTES);
  await input.drain();
}

interface Entry extends Header {
  readonly pax: ReadonlyMap<string, string>;
  /** Size as unpacked. */
  readonly realSize: number;
}

/** The next entry, with what headers before it say of it; undefined at the end. */
async function readEntry(input: BlockReader): Promise<Entry | undefined> {
  const before = { pax: new Map<string, string>(), name: '', link: '' };
  for (;;) {
    const block = await input.take(BLOCK_BYTES);
    if (block === undefined || block.every((byte) => byte === 0)) return undefined;
    const header = parseHeader(block);
    switch (header.type) {
      case TYPE.pax:
        for (const [key, value] of parsePax(await extension(input, header))) before.pax.set(key, value);
        break;
      case TYPE.globalPax:
        await extension(input, header); // comments; bsdtar takes nothing from it either
        break;
      case TYPE.longName:
        before.name = cString(await extension(input, header));
        break;
      case TYPE.longLink:
        before.link = cString(await extension(input, header));
        break;
      default:
        return await entryOf(input, header, before);
    }
  }
}

async function entryOf(
  input: BlockReader,
  header: Header,
  { pax, name, link }: { pax: Map<string, string>; name: string; link: string },
): Promise<Entry> {
  const number = (key: string, otherwise: number): number => {
    const text = pax.get(key);
    if (text === undefined) return otherwise;
    if (!/^\d{1,15}$/.test(text)) throw imageError(`the ${key} of ${shown(header.name)} is not a number`);
    return Number(text);
  };
  if (header.sparse !== undefined) await addSparseMap(input, header.sparse, pax);
  if (pax.has('GNU.sparse.offset')) throw imageError('a sparse file of it has a form that is not known');
  // GNU tar gives sparse files other names, for programs that do not know them.
  const path = pax.get('GNU.sparse.name') ?? pax.get('path') ?? (name || header.name);
  const type = typeOf(header.type, path);
  const size = WITHOUT_DATA.includes(type) ? 0 : number('size', header.size);
  if (size < 0) throw imageError(`the size of ${shown(path)} is negative`);
  const entry = {
    ...header,
    ...{ type, name: path, link: pax.get('linkpath') ?? (link || header.link) },
    ...{ uid: number('uid', header.uid), gid: number('gid', header.gid), size, pax },
    realSize: Math.max(size, number('GNU.sparse.realsize', 0), number('GNU.sparse.size', 0)),
  };
  for (const one of [entry.name, entry.link]) checkName(one);
  for (const id of [entry.uid, entry.gid]) {
    if (!isId(id)) throw imageError(`the owner ${id} of ${shown(path)} is not ${ID_RANGE}`);
  }
  return entry;
}

/** @throws TsvmError `TSVM_IMAGE` for a name, or one that a link has, that is not to be unpacked */
function checkName(name: string): void {
  // It ends there for the kernel, and would be another name than the one that is judged.
  if (name.includes('\0')) throw imageError(`the name ${shown(name)} has a null character in it`);
  const start = (): string => `${shown(name.slice(0, SHOWN_CHARACTERS))}...`;
  if (name.length > MAX_NAME_BYTES)
    throw imageError(`the name ${start()} has ${name.length} bytes, more than ${MAX_NAME_BYTES}`);
  const depth = name.split('/').length;
  if (depth > MAX_DEPTH) throw imageError(`the name ${start()} has ${depth} parts, more than ${MAX_DEPTH}`);
}

function typeOf(type: string, path: string): string {
  if (type === TYPE.sparse || type === TYPE.contiguous) return TYPE.file;
  // Earlier than POSIX, a directory was a file whose name ends in a slash.
  return type === TYPE.file && path.endsWith('/') ? TYPE.directory : type;
}

/** The map of a sparse file in the old form, as records of the newer one: it is before the data, in blocks of its own. */
async function addSparseMap(
  input: BlockReader,
  { map, realSize, more }: NonNullable<Header['sparse']>,
  pax: Map<string, string>,
): Promise<void> {
  const numbers = [...map];
  for (let follows = more; follows; ) {
    const block = await input.take(BLOCK_BYTES);
    if (block === undefined) throw cutShort();
    const next = parseSparseBlock(block);
    numbers.push(...next.map);
    if (numbers.length > MAX_SPARSE_NUMBERS) throw imageError('a sparse file of it has too many pieces');
    follows = next.more;
  }
  pax.set('GNU.sparse.size', String(realSize));
  pax.set('GNU.sparse.numblocks', String(numbers.length / 2));
  pax.set('GNU.sparse.map', numbers.join(','));
}

/** Records that go with an entry: who, when, and attributes. */
function paxOf({ name, link, uid, gid, size, mtime, pax }: Entry, superuser: boolean): Map<string, string> {
  const kept = [...pax].filter(([key]) => isKept(key, superuser));
  const time = pax.get('mtime');
  return new Map([
    // Names are bytes, not text of some locale.
    ['hdrcharset', 'BINARY'],
    ['path', name],
    ...(link === '' ? [] : [['linkpath', link] as const]),
    ['uid', String(uid)],
    ['gid', String(gid)],
    ['size', String(size)],
    ['mtime', time !== undefined && /^-?\d{1,15}(\.\d{1,9}\d*)?$/.test(time) ? time : String(mtime)],
    ...kept,
  ]);
}

/** Tells whether a record passes: file flags, ACLs, and marks that are a file system's or a security module's do not. */
function isKept(key: string, superuser: boolean): boolean {
  if (/^GNU\.sparse\.(major|minor|realsize|size|numblocks|map)$/.test(key)) return true;
  const [, text] = /^SCHILY\.xattr\.(.+)$/.exec(key) ?? [];
  const [, encoded] = /^LIBARCHIVE\.xattr\.(.+)$/.exec(key) ?? [];
  const attribute = text ?? (encoded === undefined ? '' : percentDecoded(encoded));
  if (attribute === 'security.capability') return superuser;
  // What of an overlay is hidden or elsewhere is said by layers' own marks.
  return attribute.startsWith('user.') && !attribute.startsWith('user.overlay.');
}

function percentDecoded(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
}

function count({ realSize, name }: Entry, limits: Limits): void {
  limits.entries--;
  limits.bytes -= realSize;
  if (limits.entries < 0 || limits.bytes < 0) {
    throw imageError(
      `${shown(name)}: the image has more ${limits.entries < 0 ? 'files' : 'bytes'} than are unpacked`,
      'unpack it by hand, and give the directory',
    );
  }
}

/** A path without what says nothing: `./a//b/` is `a/b`. */
function normalized(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

async function extension(input: BlockReader, { size }: Header): Promise<Uint8Array> {
  if (size < 0 || size > MAX_EXTENSION_BYTES) throw imageError('a header of it is too long');
  const bytes = await input.take(paddedLength(size));
  if (bytes === undefined) throw cutShort();
  return bytes.subarray(0, size);
}

function cString(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('latin1');
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

const shown = (name: string): string => JSON.stringify(Buffer.from(name, 'latin1').toString('utf8'));
const cutShort = (): Error => imageError('it is cut short');

/** Pieces of any length, read in the lengths that are asked for. */
class BlockReader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #held: Uint8Array = new Uint8Array(0);

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** The next `length` bytes; undefined where nothing is left. @throws TsvmError if only some are. */
  async take(length: number): Promise<Uint8Array | undefined> {
    if (this.#held.length >= length) return this.#cut(length);
    const pieces: Uint8Array[] = [];
    for await (const piece of this.#some(length)) pieces.push(piece);
    const bytes = Buffer.concat(pieces);
    if (bytes.length === 0 && length > 0) return undefined;
    if (bytes.length < length) throw cutShort();
    return bytes;
  }

  /** The next `length` bytes in pieces. @throws TsvmError if there are fewer. */
  async *pass(length: number): AsyncGenerator<Uint8Array> {
    let passed = 0;
    for await (const piece of this.#some(length)) {
      passed += piece.length;
      yield piece;
    }
    if (passed < length) throw cutShort();
  }

  async drain(): Promise<void> {
    while ((await this.#pieces.next()).done !== true);
  }

  async *#some(length: number): AsyncGenerator<Uint8Array> {
    for (let missing = length; missing > 0; ) {
      if (this.#held.length === 0) {
        const { value, done } = await this.#pieces.next();
        if (done === true) return;
        this.#held = value;
        continue;
      }
      const piece = this.#cut(Math.min(missing, this.#held.length));
      missing -= piece.length;
      yield piece;
    }
  }

  #cut(length: number): Uint8Array {
    const piece = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    return piece;
  }
}
