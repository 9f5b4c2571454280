/** Tar archives into an agent's files, with many small files on their way at once. */
import { setMaxListeners } from 'node:events';
import { TsvmError } from '../errors.js';
import type { Limits } from '../image/tar/limits.js';
import { shownName } from '../image/tar/name.js';
import type { Time } from '../image/tar/pax.js';
import { readTar, type TarEntry } from '../image/tar/reader.js';
import type { Extent } from '../image/tar/sparse.js';
import type { Abortable } from '../util/abort.js';
import type { FilePiece } from './file-stream.js';
import type { AgentPath } from './path.js';

/** Files up to this size are kept whole until they are written. */
const SMALL_BYTES = 64 * 1024;
/** Bound of the operations that are on their way. */
const AHEAD = 64;
/** Permissions of folders that no entry is. */
const FOLDER_MODE = 0o755;

/** Bounds of what is unpacked: what is in an archive is the caller's, what it costs this process is bounded all the same. */
const BOUNDS: Readonly<Limits> = {
  entries: 100_000_000,
  bytes: Number.MAX_SAFE_INTEGER,
  headerBytes: 4 * 2 ** 30,
};

const FIFO = 0o010000;

/** What unpacking needs of the agent's files. */
export interface TreeWriter {
  mkdir(
    path: AgentPath,
    options: { readonly parents: boolean; readonly mode: number } & Abortable,
  ): Promise<void>;
  remove(path: AgentPath, options: { readonly force: boolean } & Abortable): Promise<void>;
  write(
    path: AgentPath,
    data: Uint8Array | AsyncIterable<FilePiece>,
    options: FileOwner & {
      readonly mode: number;
      readonly mtime: Time;
      readonly replace: boolean;
    } & Abortable,
  ): Promise<unknown>;
  symlink(target: AgentPath, path: AgentPath, options: Abortable): Promise<void>;
  link(target: AgentPath, path: AgentPath, options: Abortable): Promise<void>;
  mknod(path: AgentPath, mode: number, device: number, options: Abortable): Promise<void>;
  chmod(path: AgentPath, mode: number, options: Abortable): Promise<void>;
  chown(path: AgentPath, owner: FileOwner, options: { readonly follow?: boolean } & Abortable): Promise<void>;
  utimes(path: AgentPath, mtime: Time, options: { readonly follow?: boolean } & Abortable): Promise<void>;
}

interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Unpacks an archive into a folder, which is made. Owners are those of the archive. */
export async function unpackTree(
  files: TreeWriter,
  folder: AgentPath,
  archive: AsyncIterable<Uint8Array>,
  { signal }: Abortable,
): Promise<void> {
  // Each operation under way listens to it.
  const own = AbortSignal.any(signal === undefined ? [] : [signal]);
  setMaxListeners(0, own);
  const unpacker = new Unpacker(files, Buffer.from(folder), own);
  await unpacker.run(archive);
}

class Unpacker {
  readonly #files: TreeWriter;
  readonly #folder: Buffer;
  readonly #abortable: Abortable;
  /** Operations that are on their way; the agent begins them in their order. */
  readonly #running = new Set<Promise<unknown>>();
  #error: unknown;
  /** Links of the archive by their names: nothing is put in what one of them leads to. */
  readonly #links = new Set<string>();
  readonly #made = new Set<string>(['']);
  /** Folders of the archive, which are finished at the end: what is put in one changes its time, and its mode may forbid it. */
  readonly #folders = new Map<string, TarEntry>();

  constructor(files: TreeWriter, folder: Buffer, signal: AbortSignal | undefined) {
    this.#files = files;
    this.#folder = folder;
    this.#abortable = { signal };
  }

  async run(archive: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      await this.#files.mkdir(this.#folder, { parents: true, mode: FOLDER_MODE, ...this.#abortable });
      for await (const entry of readTar(archive, { ...BOUNDS })) await this.#put(entry);
      await this.#settle();
      for (const [name, entry] of [...this.#folders].reverse()) await this.#finishFolder(name, entry);
    } finally {
      await this.#settle().catch(() => {});
    }
    await this.#settle();
  }

  async #put(entry: TarEntry): Promise<void> {
    const name = partsOf(entry.name).join('/');
    if (name === '' && entry.kind !== 'directory')
      throw refused(entry.name, 'the folder itself would be no folder');
    await this.#makeAbove(name);
    const path = this.#path(name);
    switch (entry.kind) {
      case 'directory':
        if (this.#links.delete(name))
          await this.#start(this.#files.remove(path, { force: true, ...this.#abortable }));
        if (name !== '')
          await this.#start(
            this.#files.mkdir(path, { parents: true, mode: 0o700 | entry.mode, ...this.#abortable }),
          );
        this.#made.add(name);
        this.#folders.delete(name);
        this.#folders.set(name, entry);
        return;
      case 'file':
        this.#links.delete(name);
        return await this.#writeFile(entry, path);
      case 'link':
        await this.#replace(name, path);
        this.#links.add(name);
        await this.#start(this.#files.symlink(Buffer.from(entry.link, 'latin1'), path, this.#abortable));
        return await this.#own(entry, path);
      case 'hard-link': {
        const target = partsOf(entry.link).join('/');
        this.#checkAbove(target);
        await this.#replace(name, path);
        await this.#start(this.#files.link(this.#path(target), path, this.#abortable));
        return;
      }
      case 'fifo':
        await this.#replace(name, path);
        await this.#start(this.#files.mknod(path, FIFO | (entry.mode & 0o7777), 0, this.#abortable));
        return await this.#own(entry, path);
      case 'device':
        throw refused(entry.name, 'it is a device', 'leave devices out of the archive');
    }
  }

  /** Makes the folders above a name. @throws TsvmError if one of them is a link of the archive. */
  async #makeAbove(name: string): Promise<void> {
    this.#checkAbove(name);
    const above = name.slice(0, Math.max(0, name.lastIndexOf('/')));
    if (this.#made.has(above)) return;
    this.#made.add(above);
    await this.#start(
      this.#files.mkdir(this.#path(above), { parents: true, mode: FOLDER_MODE, ...this.#abortable }),
    );
  }

  #checkAbove(name: string): void {
    if (this.#links.size === 0) return;
    for (let at = name.indexOf('/'); at >= 0; at = name.indexOf('/', at + 1))
      if (this.#links.has(name.slice(0, at)))
        throw refused(name, 'a part of its path is a symbolic link of the archive');
  }

  /** Removes what has the name of something that is not a folder. */
  async #replace(name: string, path: Buffer): Promise<void> {
    this.#links.delete(name);
    await this.#start(this.#files.remove(path, { force: true, ...this.#abortable }));
  }

  async #writeFile(entry: TarEntry, path: Buffer): Promise<void> {
    const { mode, uid, gid, mtime, sizeBytes } = entry;
    const options = { mode, uid, gid, mtime, replace: true, ...this.#abortable };
    if (sizeBytes > SMALL_BYTES) {
      await this.#settle();
      await this.#files.write(path, piecesOf(entry.data(), sizeBytes), options);
      return;
    }
    const pieces: Buffer[] = [];
    for await (const piece of piecesOf(entry.data(), sizeBytes))
      pieces.push('holeBytes' in piece ? Buffer.alloc(piece.holeBytes) : Buffer.from(piece));
    await this.#start(this.#files.write(path, Buffer.concat(pieces), options));
  }

  async #own({ uid, gid, mtime }: TarEntry, path: Buffer): Promise<void> {
    const link = { follow: false, ...this.#abortable };
    await this.#start(this.#files.chown(path, { uid, gid }, link));
    await this.#start(this.#files.utimes(path, mtime, link));
  }

  async #finishFolder(name: string, { uid, gid, mode, mtime }: TarEntry): Promise<void> {
    const path = this.#path(name);
    await this.#start(this.#files.chown(path, { uid, gid }, this.#abortable));
    await this.#start(this.#files.chmod(path, mode, this.#abortable));
    await this.#start(this.#files.utimes(path, mtime, this.#abortable));
  }

  #path(name: string): Buffer {
    return name === '' ? this.#folder : Buffer.concat([this.#folder, SLASH, Buffer.from(name, 'latin1')]);
  }

  /** Lets an operation run, and waits while there are too many. @throws what one of them failed with */
  async #start(operation: Promise<unknown>): Promise<void> {
    const running = operation
      .catch((error: unknown) => {
        this.#error ??= error;
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    for (const oldest of this.#running) {
      if (this.#running.size < AHEAD) break;
      await oldest;
    }
    this.#throwError();
  }

  async #settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    this.#throwError();
  }

  #throwError(): void {
    if (this.#error !== undefined) throw this.#error;
  }
}

/** Parts of a name of an archive. @throws TsvmError if it leads out of the folder. */
export function partsOf(name: string): string[] {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw refused(name, 'it leads out of the folder');
  return parts;
}

/** Data of a file with the holes between it. */
export async function* piecesOf(
  extents: AsyncIterable<Extent>,
  sizeBytes: number,
): AsyncGenerator<FilePiece> {
  let end = 0;
  for await (const { offset, bytes } of extents) {
    if (offset > end) yield { holeBytes: offset - end };
    yield bytes;
    end = offset + bytes.length;
  }
  if (end < sizeBytes) yield { holeBytes: sizeBytes - end };
}

export function refused(name: string, why: string, hint?: string): TsvmError {
  return new TsvmError('TSVM_FILE', `cannot unpack ${shownName(name)}: ${why}`, { hint });
}

const SLASH = Buffer.from('/');
