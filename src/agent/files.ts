/** Files where an agent is: what its clients do with them. */
import type { Readable, Writable } from 'node:stream';
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import { askAgent, type OpenSession, toldOf, whileOpen } from './ask-agent.js';
import { type AgentFileEntry, type AgentFileFacts, parseFacts, readEntries } from './entries.js';
import { fileRefused } from './file-errors.js';
import {
  bounded,
  type FilePiece,
  FileReadStream,
  FileWriteStream,
  sendPiece,
  withZeros,
} from './file-stream.js';
import { type AgentPath, shownPath } from './path.js';
import type { Ask, Session } from './session.js';
import { type Operand, type Reply, type RequestOption, requestBytes } from './strings.js';
import { type PackOptions, packTree } from './tar-pack.js';
import { unpackTree } from './tar-unpack.js';
import { type AgentFileEvent, watchFiles } from './watch.js';

/** Bound of what one `read()` has in memory; what is larger is for `createReadStream()`. */
export const MAX_READ_BYTES = 1 << 30;
/** Depth of a list that has no bound. */
const ANY_DEPTH = 1_000_000;

/** Part of a file that is read. */
export interface ReadOptions extends Abortable {
  /** Default 0. */
  readonly offset?: number;
  /** Most bytes that are read. Default: up to the end of the file. */
  readonly length?: number;
}

/** How a file is written. Without `append` and `offset` the data is all that it has then. */
export interface WriteOptions extends Abortable {
  /** Permissions of a new file. Default 0o644. */
  readonly mode?: number;
  readonly append?: boolean;
  /** Refuse a file that is there. */
  readonly exclusive?: boolean;
  /** Where to write in a file, of which all else stays as it is. */
  readonly offset?: number;
  /** Write another file, and let it take the place of this one when all is in it: nobody sees a part, whatever ends when. */
  readonly atomic?: boolean;
  /** Remove what has the name, and write a new file: what it led to, or has other names, stays as it is. */
  readonly replace?: boolean;
  readonly uid?: number;
  readonly gid?: number;
  /** Time of the last change that the file has then. */
  readonly mtime?: FileTime;
}

/** Time of a file: seconds since 1970 and nanoseconds, or a date. */
export type FileTime = Date | { readonly seconds: number; readonly nanoseconds: number };

/** Room of a file system, in blocks of `blockBytes`. */
export interface FileSystemFacts {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  /** Free for others than the superuser. */
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
}

/** Data for a file. */
export type FileData = string | Uint8Array | Iterable<FilePiece> | AsyncIterable<FilePiece>;

/** Files where the agent is. Each call is refused with a TsvmError `TSVM_FILE` that names the path. */
export interface AgentFiles {
  /** Reads a file, no more than 1 GiB of it. */
  read(path: AgentPath, options?: ReadOptions): Promise<Buffer>;
  /** Reads a file in pieces, of which holes are no bytes. */
  readPieces(path: AgentPath, options?: ReadOptions): AsyncGenerator<FilePiece>;
  createReadStream(path: AgentPath, options?: ReadOptions): Readable;
  write(path: AgentPath, data: FileData, options?: WriteOptions): Promise<{ readonly size: number }>;
  createWriteStream(path: AgentPath, options?: WriteOptions): Writable;
  /** @param options - `follow: false`: facts of a symbolic link itself, with its target. Default true */
  stat(
    path: AgentPath,
    options?: { readonly follow?: boolean } & Abortable,
  ): Promise<AgentFileFacts & { readonly target?: Buffer }>;
  /** Lists what is in a directory. @param options - `depth`: levels below it. Default 1; `Infinity`: all */
  list(path: AgentPath, options?: { readonly depth?: number } & Abortable): AsyncGenerator<AgentFileEntry>;
  mkdir(
    path: AgentPath,
    options?: { readonly parents?: boolean; readonly mode?: number } & Abortable,
  ): Promise<void>;
  /** Removes a file, link or empty directory. @param options - `force`: also what is not there */
  remove(
    path: AgentPath,
    options?: { readonly recursive?: boolean; readonly force?: boolean } & Abortable,
  ): Promise<void>;
  rename(from: AgentPath, to: AgentPath, options?: Abortable): Promise<void>;
  chmod(path: AgentPath, mode: number, options?: Abortable): Promise<void>;
  chown(
    path: AgentPath,
    owner: { readonly uid?: number; readonly gid?: number },
    options?: { readonly follow?: boolean } & Abortable,
  ): Promise<void>;
  utimes(
    path: AgentPath,
    mtime: FileTime,
    options?: { readonly follow?: boolean } & Abortable,
  ): Promise<void>;
  /** Makes a symbolic link at `path`. */
  symlink(target: AgentPath, path: AgentPath, options?: Abortable): Promise<void>;
  /** Gives the file `target` another name. */
  link(target: AgentPath, path: AgentPath, options?: Abortable): Promise<void>;
  /** Makes a pipe, socket or device. @param mode - with its kind, as mknod(2) has it */
  mknod(path: AgentPath, mode: number, device?: number, options?: Abortable): Promise<void>;
  truncate(path: AgentPath, size: number, options?: Abortable): Promise<void>;
  statfs(path: AgentPath, options?: Abortable): Promise<FileSystemFacts>;
  /** Tells of changes from when it says `watching` on, until the reader ends it or it is aborted. */
  watch(
    path: AgentPath,
    options?: { readonly recursive?: boolean } & Abortable,
  ): AsyncGenerator<AgentFileEvent>;
  /** Reads a file or directory as a tar archive. */
  readTar(path: AgentPath, options?: PackOptions): Readable;
  /** Unpacks a tar archive into a directory. No name of it leads out of the directory. */
  writeTar(path: AgentPath, archive: AsyncIterable<Uint8Array>, options?: Abortable): Promise<void>;
}

/** Files of the agent whose sessions `open` opens. */
export function agentFiles(open: OpenSession): AgentFiles {
  const plain = async (
    doing: string,
    operation: string,
    options: readonly (RequestOption | undefined)[],
    operands: readonly Operand[],
    { signal }: Abortable = {},
  ): Promise<void> =>
    await askAgent(
      open,
      askFor(doing, operation, options, operands, () => {}),
      { signal },
    );

  const openRead = async (path: AgentPath, options: ReadOptions): Promise<Session<Reply, void>> =>
    await open(readAsk(path, options), options);
  const openWrite = async (path: AgentPath, options: WriteOptions): Promise<Session<void, WriteReply>> =>
    await open(writeAsk(path, options), options);

  async function* readPieces(path: AgentPath, options: ReadOptions = {}): AsyncGenerator<FilePiece> {
    options.signal?.throwIfAborted();
    const session = await openRead(path, options);
    const abort = (): void => session.close(options.signal?.reason);
    options.signal?.addEventListener('abort', abort, { once: true });
    try {
      yield* bounded(session.stdout, options.length ?? Number.POSITIVE_INFINITY);
      await session.last;
    } catch (error) {
      throw toldOf(session, error);
    } finally {
      options.signal?.removeEventListener('abort', abort);
      session.close();
    }
  }

  const files: AgentFiles = {
    readPieces,
    async read(path, options = {}) {
      const most = Math.min(options.length ?? MAX_READ_BYTES + 1, MAX_READ_BYTES + 1);
      const pieces: Buffer[] = [];
      let size = 0;
      for await (const bytes of withZeros(readPieces(path, { ...options, length: most }), most)) {
        pieces.push(bytes);
        size += bytes.length;
      }
      if (size > MAX_READ_BYTES)
        throw new TsvmError('TSVM_FILE', `${shownPath(path)}: it has more than ${MAX_READ_BYTES} bytes`, {
          hint: 'read it as a stream, or a part of it',
        });
      return Buffer.concat(pieces);
    },
    createReadStream(path, options = {}) {
      const stream = new FileReadStream(
        () => openRead(path, options),
        options.length ?? Number.POSITIVE_INFINITY,
      );
      return abortable(stream, options.signal);
    },
    async write(path, data, options = {}) {
      const session = await openWrite(path, options);
      return await whileOpen(session, options.signal, async () => {
        for await (const piece of piecesOf(data)) await sendPiece(session, piece);
        session.input.end();
        return await session.last;
      });
    },
    createWriteStream: (path, options = {}) =>
      abortable(new FileWriteStream(() => openWrite(path, options)), options.signal),
    async stat(path, { follow = true, signal } = {}) {
      const last = (reply: Reply): AgentFileFacts & { target?: Buffer } => ({
        ...parseFacts(reply.text('facts')),
        ...(reply.has('target') ? { target: reply.bytes('target') } : {}),
      });
      return await askAgent(open, askFor('look at', 'stat', [followOption(follow)], [path], last), {
        signal,
      });
    },
    async *list(path, { depth = 1, signal } = {}) {
      const request = requestBytes('list', [['depth', Math.min(depth, ANY_DEPTH)]], [path]);
      const ask: Ask<void, void> = {
        request,
        outputs: { 1: 'bytes' },
        last: () => {},
        refused: fileRefused('list', path),
      };
      const session = await open(ask, { signal });
      const abort = (): void => session.close(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
      try {
        yield* readEntries(session.stdout);
        await session.last;
      } catch (error) {
        throw toldOf(session, error);
      } finally {
        signal?.removeEventListener('abort', abort);
        session.close();
      }
    },
    async mkdir(path, { parents, mode, signal } = {}) {
      await plain('make the directory', 'mkdir', [flag('parents', parents), given('mode', mode)], [path], {
        signal,
      });
    },
    async remove(path, { recursive, force, signal } = {}) {
      await plain('remove', 'remove', [flag('recursive', recursive), flag('force', force)], [path], {
        signal,
      });
    },
    async rename(from, to, options) {
      await plain('rename', 'rename', [], [from, to], options);
    },
    async chmod(path, mode, options) {
      await plain('set the mode of', 'chmod', [['mode', mode]], [path], options);
    },
    async chown(path, { uid, gid }, { follow = true, signal } = {}) {
      const options = [given('uid', uid), given('gid', gid), followOption(follow)];
      await plain('set the owner of', 'chown', options, [path], { signal });
    },
    async utimes(path, mtime, { follow = true, signal } = {}) {
      await plain('set the time of', 'utimes', [timeOption(mtime), followOption(follow)], [path], { signal });
    },
    async symlink(target, path, options) {
      await plain('make the link', 'symlink', [], [target, path], options);
    },
    async link(target, path, options) {
      await plain('make the link', 'link', [], [target, path], options);
    },
    async mknod(path, mode, device = 0, options = {}) {
      const numbers: RequestOption[] = [
        ['mode', mode],
        ['rdev', device],
      ];
      await plain('make', 'mknod', numbers, [path], options);
    },
    async truncate(path, size, options) {
      await plain('set the size of', 'truncate', [['size', size]], [path], options);
    },
    async statfs(path, options) {
      return await askAgent(open, askFor('look at', 'statfs', [], [path], fileSystemFacts), options);
    },
    watch: (path, options = {}) => watchFiles(open, path, options),
    readTar: (path, options = {}) => packTree(files, path, options),
    async writeTar(path, archive, options = {}) {
      await unpackTree(files, path, archive, options);
    },
  };
  return files;
}

interface WriteReply {
  readonly size: number;
}

function readAsk(path: AgentPath, { offset, length }: ReadOptions): Ask<Reply, void> {
  return {
    request: requestBytes('read', [given('offset', offset), given('length', length)].filter(isGiven), [path]),
    outputs: { 1: 'pieces' },
    first: (reply) => reply,
    last: () => {},
    refused: fileRefused('read', path),
  };
}

function writeAsk(path: AgentPath, options: WriteOptions): Ask<void, WriteReply> {
  const { mode, append, exclusive, offset, atomic, replace, uid, gid, mtime } = options;
  const given_ = [
    given('mode', mode),
    flag('append', append),
    flag('exclusive', exclusive),
    given('offset', offset),
    flag('atomic', atomic),
    flag('replace', replace),
    given('uid', uid),
    given('gid', gid),
    mtime === undefined ? undefined : timeOption(mtime),
  ];
  return {
    request: requestBytes('write', given_.filter(isGiven), [path]),
    input: 'closes',
    last: (reply) => ({ size: reply.number('size') }),
    refused: fileRefused('write', path),
  };
}

function askFor<Last>(
  doing: string,
  operation: string,
  options: readonly (RequestOption | undefined)[],
  operands: readonly Operand[],
  last: (reply: Reply) => Last,
): Ask<void, Last> {
  const request = requestBytes(operation, options.filter(isGiven), operands);
  return { request, last, refused: fileRefused(doing, operands.at(-1) ?? '') };
}

function fileSystemFacts(reply: Reply): FileSystemFacts {
  return {
    blockBytes: reply.number('bsize'),
    blocks: reply.number('blocks'),
    freeBlocks: reply.number('bfree'),
    availableBlocks: reply.number('bavail'),
    files: reply.number('files'),
    freeFiles: reply.number('ffree'),
  };
}

function piecesOf(data: FileData): Iterable<FilePiece> | AsyncIterable<FilePiece> {
  if (typeof data === 'string') return [Buffer.from(data)];
  return data instanceof Uint8Array ? [data] : data;
}

function timeOption(time: FileTime): RequestOption {
  const { seconds, nanoseconds } = time instanceof Date ? timeOfDate(time) : time;
  return ['mtime', `${seconds}.${`${nanoseconds}`.padStart(9, '0')}`];
}

function timeOfDate(date: Date): { seconds: number; nanoseconds: number } {
  const seconds = Math.floor(date.getTime() / 1000);
  return { seconds, nanoseconds: (date.getTime() - seconds * 1000) * 1_000_000 };
}

function abortable<T extends Readable | Writable>(stream: T, signal: AbortSignal | undefined): T {
  if (signal === undefined) return stream;
  const abort = (): void => void stream.destroy(signal.reason as Error);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  stream.once('close', () => signal.removeEventListener('abort', abort));
  return stream;
}

const given = (name: string, value: number | undefined): RequestOption | undefined =>
  value === undefined ? undefined : [name, value];
const flag = (name: string, value: boolean | undefined): RequestOption | undefined =>
  value === true ? [name, 1] : undefined;
const followOption = (follow: boolean): RequestOption | undefined => (follow ? undefined : ['follow', 0]);
const isGiven = (option: RequestOption | undefined): option is RequestOption => option !== undefined;
