/** Writes a snapshot's folder so that a save that is killed leaves the old one or none. */
import { createHash, randomBytes } from 'node:crypto';
import { fsync } from 'node:fs';
import { access, constants, type FileHandle, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { foundErrno, isErrnoError, TsvmError } from '../errors.js';
import { describeFileError, makeFolders } from '../host/files.js';
import { OwnFolder } from '../host/own-folder.js';
import type { PageRun, Ram } from '../kvm/ram.js';
import type { NativeAddon } from '../native/binding.js';
import { formatBytes } from '../util/units.js';
import {
  MANIFEST_NAME,
  MAX_MANIFEST_BYTES,
  type SavedMemory,
  SNAPSHOT_FOLDER,
  SNAPSHOT_FORMAT,
  type Snapshot,
  type SnapshotProgress,
} from './format.js';
import { hashPages, stampOf, writePages } from './memory-file.js';

/**
 * The memory goes to a file of a new name; `machine.json`, which names it, is replaced last and in one step. A lock on the
 * folder keeps two saves apart and goes with the process.
 */
export class SnapshotWriter {
  readonly directory: string;
  /** Whether the folder was made for this save. */
  readonly #made: boolean;
  readonly #folder: OwnFolder;
  readonly #memory: FileHandle;
  readonly #memoryName: string;
  readonly #unfinishedManifest: string;
  readonly #signal: AbortSignal | undefined;
  #pages: SavedMemory['pages'] = [];
  #bytes = 0;
  #committed = false;

  private constructor(
    directory: string,
    made: boolean,
    folder: OwnFolder,
    memory: FileHandle,
    memoryName: string,
    signal: AbortSignal | undefined,
  ) {
    this.directory = directory;
    this.#made = made;
    this.#folder = folder;
    this.#memory = memory;
    this.#memoryName = memoryName;
    this.#unfinishedManifest = folder.unfinishedName(MANIFEST_NAME);
    this.#signal = signal;
  }

  /**
   * @param signal - abort of the whole save, up to where it is valid
   * @throws TsvmError `TSVM_SNAPSHOT`
   */
  static async open(addon: NativeAddon, path: string, signal?: AbortSignal): Promise<SnapshotWriter> {
    const directory = resolve(path);
    return await translated(directory, async () => {
      // What keeps it from being made is said as what keeps the machine from being saved.
      const made = makeFolders(directory);
      const folder = OwnFolder.make(directory, SNAPSHOT_FOLDER);
      try {
        if (!addon.flock(folder.fd, 'exclusive')) {
          throw new TsvmError('TSVM_SNAPSHOT', `${directory}: another snapshot is being saved there`, {
            hint: 'wait for it, or choose another folder',
          });
        }
        refuseForeignFolder(folder);
        await removeLeftovers(folder, namedMemory(folder));
        const memoryName = `memory-${randomBytes(8).toString('hex')}`;
        const memory = await folder.createFile(memoryName);
        return new SnapshotWriter(directory, made, folder, memory, memoryName, signal);
      } catch (error) {
        folder[Symbol.dispose]();
        throw error;
      }
    });
  }

  /** While the machine stands still. */
  async writeMemory(
    ram: Ram,
    runs: readonly PageRun[],
    onProgress?: (progress: SnapshotProgress) => void,
  ): Promise<number> {
    return await this.#translated(async () => {
      this.#pages = runs.map(({ first, count }) => [first, count]);
      this.#bytes = ram.sizeBytes;
      await this.#memory.truncate(ram.sizeBytes);
      return await writePages(this.#memory, ram, runs, onProgress, this.#signal);
    });
  }

  /** Makes the snapshot valid, and what was in the folder before void. Returns its checksum. */
  async commit(rest: Omit<Snapshot, 'memory'>): Promise<string> {
    return await this.#translated(async () => {
      await this.#memory.datasync();
      const sha256 = await hashPages(this.#memory, this.#pages, this.#signal);
      if (sha256 === undefined) throw new Error('the memory file was truncated while it was written');
      const stamp = await stampOf(this.#memory);
      const memory = { file: this.#memoryName, bytes: this.#bytes, pages: this.#pages, sha256, stamp };
      const snapshot: Snapshot = { ...rest, memory };
      const body = JSON.stringify(snapshot);
      const checksum = createHash('sha256').update(body).digest('hex');
      const text = `{"format":${SNAPSHOT_FORMAT},"checksum":"${checksum}","snapshot":${body}}\n`;
      if (Buffer.byteLength(text) > MAX_MANIFEST_BYTES) throw tooLong(this.directory);
      const file = await this.#folder.createFile(this.#unfinishedManifest);
      try {
        await file.writeFile(text);
        await file.datasync();
      } finally {
        await file.close();
      }
      this.#signal?.throwIfAborted();
      this.#folder.rename(this.#unfinishedManifest, MANIFEST_NAME);
      this.#committed = true;
      await syncFolder(this.#folder);
      // The next save tries again.
      await removeLeftovers(this.#folder, this.#memoryName).catch(() => {});
      return checksum;
    });
  }

  async #translated<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await translated(this.directory, action);
    } catch (error) {
      // An abort is not explained.
      this.#signal?.throwIfAborted();
      throw error;
    }
  }

  /** After `commit`, or instead of it: then nothing of this save is left. */
  async close(): Promise<void> {
    try {
      await this.#memory.close();
      if (this.#committed) return;
      for (const name of [this.#memoryName, this.#unfinishedManifest])
        await rm(this.#folder.at(name), { force: true });
      // Unless somebody else uses it by now.
      if (this.#made) await rmdir(this.directory).catch(() => {});
    } finally {
      this.#folder[Symbol.dispose]();
    }
  }
}

/**
 * Looks whether a snapshot could be saved in a folder, which need not be there yet.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` as {@link SnapshotWriter.open}.
 */
export async function lookAtSnapshotTarget(path: string): Promise<void> {
  const directory = resolve(path);
  await translated(directory, async () => {
    using folder = OwnFolder.open(directory, SNAPSHOT_FOLDER);
    if (folder !== undefined) return refuseForeignFolder(folder);
    // The folders above it are made as well.
    let above = dirname(directory);
    while ((await stat(above).catch(() => undefined)) === undefined && above !== '/') above = dirname(above);
    if (!(await stat(above)).isDirectory()) throw foundErrno('ENOTDIR');
    await access(above, constants.W_OK | constants.X_OK);
  });
}

/** Error for a machine.json that could not be read again, and must not replace one that can. */
function tooLong(directory: string): TsvmError {
  const most = formatBytes(MAX_MANIFEST_BYTES);
  return new TsvmError(
    'TSVM_SNAPSHOT',
    `cannot save to ${directory}: the state of its devices takes more than ${most}`,
    { hint: 'close what is open in shared folders, or save a machine with fewer devices' },
  );
}

const fsyncFd = promisify(fsync);

/** So that the new name survives a crash of the host, where the file system can promise that. */
async function syncFolder({ fd }: OwnFolder): Promise<void> {
  try {
    await fsyncFd(fd);
  } catch (error) {
    if (!isErrnoError(error) || error.code !== 'EINVAL') throw error;
  }
}

/** A folder that holds something else is not ours to fill. */
function refuseForeignFolder(folder: OwnFolder): void {
  const foreign = folder.names().find((name) => !isOurs(name));
  if (foreign === undefined) return;
  throw new TsvmError('TSVM_SNAPSHOT', `${folder.path} is not a snapshot's folder: it holds ${foreign}`, {
    hint: 'choose a folder that is empty or does not exist yet',
  });
}

/** `machine.json.new` is what earlier versions left when they were killed. */
const isOurs = (name: string): boolean =>
  name === MANIFEST_NAME ||
  name === `${MANIFEST_NAME}.new` ||
  /^\.machine\.json\.[0-9a-f]{16}$/.test(name) ||
  /^memory-[0-9a-f]+$/.test(name);

/** The memory file that a valid `machine.json` in the folder names. @throws TsvmError if that is a link, or no file. */
function namedMemory(folder: OwnFolder): string | undefined {
  const text = folder.read(MANIFEST_NAME, MAX_MANIFEST_BYTES) ?? '';
  return /"memory":\{"file":"(memory-[0-9a-f]+)"/.exec(text)?.[1];
}

/** What saves that were killed, or replaced, have left. Machines that run from such a file keep it. */
async function removeLeftovers(folder: OwnFolder, keep: string | undefined): Promise<void> {
  for (const name of folder.names()) {
    if (name === MANIFEST_NAME || name === keep || !isOurs(name)) continue;
    await rm(folder.at(name), { force: true });
  }
}

async function translated<T>(directory: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof TsvmError) throw cause;
    throw new TsvmError('TSVM_SNAPSHOT', `cannot save to ${directory}: ${describeFileError(cause)}`, {
      hint: 'check the path, its permissions and the space on its disk; what was there before is unchanged',
      cause,
    });
  }
}
