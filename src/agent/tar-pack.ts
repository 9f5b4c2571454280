/** Trees of an agent's files as tar archives, with many small files on their way at once. */
import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import { TYPE } from '../image/tar/format.js';
import type { Abortable } from '../util/abort.js';
import type { AgentFileEntry, AgentFileFacts, AgentFileKind } from './entries.js';
import type { AgentPath } from './path.js';
import { TAR_END_BYTES, type TarFacts, tarHeader, tarPadding } from './tar-header.js';

/** Files up to this size are read whole before their turn. */
const SMALL_BYTES = 64 * 1024;
/** Bound of the entries whose files are on their way. */
const AHEAD = 64;
/** Bound of the files with several names that are remembered. */
const MAX_LINKED = 1_000_000;
const ZEROS = Buffer.alloc(64 * 1024);

/** What packing needs of the agent's files. */
export interface TreeReader {
  stat(
    path: AgentPath,
    options: { readonly follow: boolean } & Abortable,
  ): Promise<AgentFileFacts & { readonly target?: Buffer }>;
  list(path: AgentPath, options: { readonly depth: number } & Abortable): AsyncIterable<AgentFileEntry>;
  read(path: AgentPath, options: { readonly length: number } & Abortable): Promise<Buffer>;
  createReadStream(path: AgentPath, options: { readonly length: number } & Abortable): Readable;
}

/** How a tree is packed. */
export interface PackOptions extends Abortable {
  /** Name of what is packed in the archive, before all paths. Default: `.`. */
  readonly name?: string | Uint8Array;
  /** Pack what a symbolic link leads to, if `path` is one. Default false: the link. */
  readonly follow?: boolean;
}

const TYPES: Readonly<Partial<Record<AgentFileKind, string>>> = {
  file: TYPE.file,
  directory: TYPE.directory,
  link: TYPE.symbolicLink,
  fifo: TYPE.fifo,
  'character-device': TYPE.characterDevice,
  'block-device': TYPE.blockDevice,
};

/** Packs a file or a directory with all that is in it. Sockets are left out, as tar does. */
export function packTree(files: TreeReader, path: AgentPath, options: PackOptions): Readable {
  const stop = new AbortController();
  // Each file on its way listens to it.
  setMaxListeners(0, stop.signal);
  const abort = (): void => void stream.destroy(options.signal?.reason as Error);
  const stream = Readable.from(pack(files, Buffer.from(path), options, stop.signal), { objectMode: false });
  // The generator waits for the agent, and ends only when that wait does.
  const destroy = stream._destroy.bind(stream);
  stream._destroy = (error, done) => {
    stop.abort(error ?? new Error('nobody reads it any more'));
    options.signal?.removeEventListener('abort', abort);
    destroy(error, done);
  };
  if (options.signal?.aborted === true) abort();
  else options.signal?.addEventListener('abort', abort, { once: true });
  return stream;
}

interface Packed {
  readonly header: Buffer;
  readonly size: number;
  /** Content of a small file. */
  readonly small?: Promise<Buffer>;
  readonly path: Buffer;
}

async function* pack(
  files: TreeReader,
  path: Buffer,
  { name = '.', follow = false }: PackOptions,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const queue: Packed[] = [];
  const packer = new Packer(files, signal);
  for await (const { facts, at, named } of entriesOf(files, path, Buffer.from(name), follow, signal)) {
    const packed = packer.begin(facts, at, named);
    if (packed !== undefined) queue.push(packed);
    if (queue.length >= AHEAD) yield* packer.finish(queue.shift()!);
  }
  for (const packed of queue) yield* packer.finish(packed);
  yield Buffer.alloc(TAR_END_BYTES);
}

interface Found {
  readonly facts: AgentFileFacts & { readonly target?: Buffer };
  readonly at: Buffer;
  readonly named: Buffer;
}

async function* entriesOf(
  files: TreeReader,
  path: Buffer,
  name: Buffer,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Found> {
  const root = await files.stat(path, { follow, signal });
  yield { facts: root, at: path, named: name };
  if (root.kind !== 'directory') return;
  const join = (folder: Buffer, below: Buffer): Buffer => Buffer.concat([folder, SLASH, below]);
  for await (const entry of files.list(path, { depth: Number.POSITIVE_INFINITY, signal }))
    yield { facts: entry, at: join(path, entry.pathBytes), named: join(name, entry.pathBytes) };
}

class Packer {
  readonly #files: TreeReader;
  readonly #signal: AbortSignal;
  /** Names of files that have several, by file system and inode. */
  readonly #linked = new Map<string, Buffer>();

  constructor(files: TreeReader, signal: AbortSignal) {
    this.#files = files;
    this.#signal = signal;
  }

  /** Begins to read what is small. Undefined for what no archive has. */
  begin(facts: Found['facts'] | AgentFileEntry, path: Buffer, name: Buffer): Packed | undefined {
    const type = TYPES[facts.kind];
    if (type === undefined) return undefined;
    const { mode, uid, gid, mtime } = facts;
    const owned = { mode, uid, gid, mtime };
    if (facts.kind !== 'file') {
      const full = facts.kind === 'directory' ? Buffer.concat([name, SLASH]) : name;
      const device = facts.kind.endsWith('device') ? { device: facts.device } : {};
      const link = facts.kind === 'link' ? { link: facts.target ?? Buffer.alloc(0) } : {};
      return entry({ ...owned, type, name: full, size: 0, ...device, ...link }, path);
    }
    const key = `${facts.fileSystem}:${facts.inode}`;
    const first = facts.links > 1 ? this.#linked.get(key) : undefined;
    if (first !== undefined)
      return entry({ ...owned, type: TYPE.hardLink, name, link: first, size: 0 }, path);
    if (facts.links > 1 && this.#linked.size < MAX_LINKED) this.#linked.set(key, name);
    const { size } = facts;
    const packed = entry({ ...owned, type, name, size }, path);
    if (size === 0 || size > SMALL_BYTES) return packed;
    const small = this.#files.read(path, { length: size, signal: this.#signal });
    small.catch(() => {});
    return { ...packed, small };
  }

  /** Gives an entry. A file that is shorter by now has zeros at its end, as tar gives it. */
  async *finish({ header, size, small, path }: Packed): AsyncGenerator<Buffer> {
    const content = small === undefined ? undefined : await small;
    yield header;
    if (size === 0) return;
    let left = size;
    if (content !== undefined) {
      yield content;
      left -= content.length;
    } else {
      for await (const piece of this.#files.createReadStream(path, { length: size, signal: this.#signal })) {
        yield piece;
        left -= piece.length;
      }
    }
    for (; left > 0; left -= Math.min(left, ZEROS.length)) yield ZEROS.subarray(0, left);
    const padding = tarPadding(size);
    if (padding.length > 0) yield padding;
  }
}

function entry(facts: TarFacts, path: Buffer): Packed {
  return { header: tarHeader(facts), size: facts.size, path };
}

const SLASH = Buffer.from('/');
