/** Writes a snapshot's folder so that a save that is killed leaves the old one or none. */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isErrnoError, TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import type { PageRun, Ram } from '../kvm/ram.js';
import type { NativeAddon } from '../native/binding.js';
import {
  MANIFEST_NAME,
  type SavedMemory,
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
  readonly #folder: FileHandle;
  readonly #memory: FileHandle;
  readonly #memoryName: string;
  #pages: SavedMemory['pages'] = [];
  #bytes = 0;
  #committed = false;

  private constructor(directory: string, folder: FileHandle, memory: FileHandle, memoryName: string) {
    this.directory = directory;
    this.#folder = folder;
    this.#memory = memory;
    this.#memoryName = memoryName;
  }

  /** @throws TsvmError `TSVM_SNAPSHOT` */
  static async open(addon: NativeAddon, path: string): Promise<SnapshotWriter> {
    const directory = resolve(path);
    return await translated(directory, async () => {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const folder = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
      try {
        if (!addon.flock(folder.fd, 'exclusive')) {
          throw new TsvmError('TSVM_SNAPSHOT', `${directory}: another snapshot is being saved there`, {
            hint: 'wait for it, or choose another folder',
          });
        }
        await refuseForeignFolder(directory);
        await removeLeftovers(directory, await namedMemory(directory));
        const memoryName = `memory-${randomBytes(8).toString('hex')}`;
        const memory = await open(join(directory, memoryName), 'wx+', 0o600);
        return new SnapshotWriter(directory, folder, memory, memoryName);
      } catch (error) {
        await folder.close();
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
    return await translated(this.directory, async () => {
      this.#pages = runs.map(({ first, count }) => [first, count]);
      this.#bytes = ram.sizeBytes;
      await this.#memory.truncate(ram.sizeBytes);
      return await writePages(this.#memory, ram, runs, onProgress);
    });
  }

  /** Makes the snapshot valid, and what was in the folder before void. Returns its checksum. */
  async commit(rest: Omit<Snapshot, 'memory'>): Promise<string> {
    return await translated(this.directory, async () => {
      await this.#memory.datasync();
      const sha256 = await hashPages(this.#memory, this.#pages);
      if (sha256 === undefined) throw new Error('the memory file was truncated while it was written');
      const stamp = await stampOf(this.#memory);
      const memory = { file: this.#memoryName, bytes: this.#bytes, pages: this.#pages, sha256, stamp };
      const snapshot: Snapshot = { ...rest, memory };
      const body = JSON.stringify(snapshot);
      const checksum = createHash('sha256').update(body).digest('hex');
      const text = `{"format":${SNAPSHOT_FORMAT},"checksum":"${checksum}","snapshot":${body}}\n`;
      const temporary = join(this.directory, `${MANIFEST_NAME}.new`);
      const file = await open(temporary, 'w', 0o600);
      try {
        await file.writeFile(text);
        await file.datasync();
      } finally {
        await file.close();
      }
      await rename(temporary, join(this.directory, MANIFEST_NAME));
      this.#committed = true;
      await syncFolder(this.#folder);
      // The next save tries again.
      await removeLeftovers(this.directory, this.#memoryName).catch(() => {});
      return checksum;
    });
  }

  /** After `commit`, or instead of it: then nothing of this save is left. */
  async close(): Promise<void> {
    try {
      await this.#memory.close();
      if (this.#committed) return;
      for (const name of [this.#memoryName, `${MANIFEST_NAME}.new`])
        await rm(join(this.directory, name), { force: true });
    } finally {
      await this.#folder.close();
    }
  }
}

/** So that the new name survives a crash of the host, where the file system can promise that. */
async function syncFolder(folder: FileHandle): Promise<void> {
  try {
    await folder.sync();
  } catch (error) {
    if (!isErrnoError(error) || error.code !== 'EINVAL') throw error;
  }
}

/** A folder that holds something else is not ours to fill. */
async function refuseForeignFolder(directory: string): Promise<void> {
  const foreign = (await readdir(directory)).find((name) => !isOurs(name));
  if (foreign === undefined) return;
  throw new TsvmError('TSVM_SNAPSHOT', `${directory} is not a snapshot's folder: it holds ${foreign}`, {
    hint: 'choose a folder that is empty or does not exist yet',
  });
}

const isOurs = (name: string): boolean =>
  name === MANIFEST_NAME || name === `${MANIFEST_NAME}.new` || /^memory-[0-9a-f]+$/.test(name);

/** The memory file that a valid `machine.json` in the folder names. */
async function namedMemory(directory: string): Promise<string | undefined> {
  const file = await open(join(directory, MANIFEST_NAME)).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    return /"memory":\{"file":"(memory-[0-9a-f]+)"/.exec(await file.readFile('utf8'))?.[1];
  } finally {
    await file.close();
  }
}

/** What saves that were killed, or replaced, have left. Machines that run from such a file keep it. */
async function removeLeftovers(directory: string, keep: string | undefined): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name === MANIFEST_NAME || name === keep || !isOurs(name)) continue;
    await rm(join(directory, name), { force: true });
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
