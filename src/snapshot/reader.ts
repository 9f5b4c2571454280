/** Opens a snapshot's folder, checks that it is whole and fits this host, and makes its memory a base for machines. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type * as z from 'zod/mini';
import { TsvmError } from '../errors.js';
import { describeFileError } from '../host/files.js';
import type { FilePiece, RamBase } from '../kvm/ram.js';
import { PAGE_BYTES } from '../util/units.js';
import {
  MANIFEST_NAME,
  MAX_MANIFEST_BYTES,
  manifestSchema,
  type SavedMemory,
  SNAPSHOT_FORMAT,
  type Snapshot,
} from './format.js';
import { hashPages, stampOf } from './memory-file.js';

/** Differential upon differential: each is a file to open and some mappings. */
const MAX_CHAIN = 32;

export interface OpenedSnapshot {
  readonly directory: string;
  readonly checksum: string;
  readonly snapshot: Snapshot;
  /** The memory files of the whole chain, open. Whoever takes it closes it. */
  readonly memory: RamBase;
}

/**
 * Reads a snapshot and those it is based on.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` with a sentence that says what is wrong with it.
 */
export async function openSnapshot(path: string): Promise<OpenedSnapshot> {
  const directory = resolve(path);
  const files: FileHandle[] = [];
  try {
    const { checksum, snapshot } = await readManifest(directory);
    const pieces: FilePiece[] = [];
    let at = { directory, snapshot };
    for (let depth = 1; ; depth++) {
      const file = await openMemory(at.directory, at.snapshot.memory);
      files.push(file);
      // The base first: what comes later is mapped over it.
      pieces.unshift(...piecesOf(file, at.snapshot.memory));
      const { base } = at.snapshot;
      if (base === undefined) break;
      if (depth === MAX_CHAIN)
        throw refused(directory, `more than ${MAX_CHAIN} differential snapshots in a row`);
      const below = resolve(at.directory, base.directory);
      const read = await readManifest(below);
      if (read.checksum !== base.checksum)
        throw refused(at.directory, `the snapshot it is based on, ${below}, has been replaced since`);
      if (read.snapshot.memory.bytes !== snapshot.memory.bytes)
        throw refused(at.directory, `the snapshot it is based on, ${below}, has another size of memory`);
      at = { directory: below, snapshot: read.snapshot };
    }
    return { directory, checksum, snapshot, memory: fileBase(files, pieces) };
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

function fileBase(files: readonly FileHandle[], pieces: readonly FilePiece[]): RamBase {
  let open = true;
  return {
    mapInto: (ram) => ram.mapFiles(pieces),
    close: () => {
      if (open) for (const file of files) void file.close();
      open = false;
    },
  };
}

function piecesOf(file: FileHandle, memory: SavedMemory): FilePiece[] {
  return memory.pages.map(([first, count]) => ({
    fd: file.fd,
    first,
    count,
    fileOffset: first * PAGE_BYTES,
  }));
}

/** Reads and checks `machine.json` alone. @throws TsvmError `TSVM_SNAPSHOT` */
export async function readManifest(directory: string): Promise<{ checksum: string; snapshot: Snapshot }> {
  const path = join(directory, MANIFEST_NAME);
  let text: string;
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      if (size > MAX_MANIFEST_BYTES) throw refused(directory, `${MANIFEST_NAME} is ${size} bytes long`);
      text = await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof TsvmError) throw cause;
    throw new TsvmError(
      'TSVM_SNAPSHOT',
      `${directory} is not a snapshot: ${MANIFEST_NAME}: ${describeFileError(cause)}`,
      {
        hint: 'name the folder that `tsvm snapshot` or machine.snapshot() made',
        cause,
      },
    );
  }
  return checkManifest(directory, text);
}

function checkManifest(directory: string, text: string): { checksum: string; snapshot: Snapshot } {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw refused(directory, `${MANIFEST_NAME} is damaged: it is not JSON`);
  }
  const { format, checksum, snapshot } = (data ?? {}) as Partial<z.infer<typeof manifestSchema>>;
  if (format !== SNAPSHOT_FORMAT) {
    const version = typeof format === 'number' ? `format ${format}` : 'no known format';
    throw refused(directory, `it has ${version}, and this tsvm reads format ${SNAPSHOT_FORMAT}`);
  }
  // The text from the first field on is what was hashed; parsing and printing it again gives the same.
  const sum = createHash('sha256')
    .update(JSON.stringify(snapshot) ?? '')
    .digest('hex');
  if (sum !== checksum) throw refused(directory, `${MANIFEST_NAME} is damaged: its checksum does not fit`);
  const checked = manifestSchema.safeParse(data);
  if (!checked.success) {
    const issue = checked.error.issues[0];
    throw refused(directory, `${MANIFEST_NAME}: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  checkPages(directory, checked.data.snapshot.memory);
  return checked.data;
}

function checkPages(directory: string, memory: SavedMemory): void {
  let end = 0;
  for (const [first, count] of memory.pages) {
    if (first < end || (first + count) * PAGE_BYTES > memory.bytes)
      throw refused(directory, 'its list of pages is not in order, or goes beyond its memory');
    end = first + count;
  }
}

async function openMemory(directory: string, memory: SavedMemory): Promise<FileHandle> {
  const path = join(directory, memory.file);
  let file: FileHandle;
  try {
    file = await open(path);
  } catch (cause) {
    throw new TsvmError(
      'TSVM_SNAPSHOT',
      `${directory}: its memory file ${memory.file} cannot be opened: ${describeFileError(cause)}`,
      {
        hint: 'restore the file, or save the machine again',
        cause,
      },
    );
  }
  try {
    const stamp = await stampOf(file);
    if (stamp.bytes !== memory.bytes)
      throw refused(directory, `${memory.file} is ${stamp.bytes} bytes long, not ${memory.bytes}`);
    const untouched = stamp.inode === memory.stamp.inode && stamp.ctimeNs === memory.stamp.ctimeNs;
    if (!untouched && (await hashPages(file, memory.pages)) !== memory.sha256)
      throw refused(directory, `${memory.file} is damaged: its checksum does not fit`);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

export function refused(directory: string, why: string): TsvmError {
  return new TsvmError('TSVM_SNAPSHOT', `${directory} cannot be restored: ${why}`, {
    hint: 'save the machine again with this version, on this host',
  });
}
