/** Opens a snapshot's folder, checks that it is whole and fits this host, and makes its memory a base for machines. */
import { createHash } from 'node:crypto';
import { type FileHandle, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type * as z from 'zod/mini';
import { TsvmError } from '../errors.js';
import { hostMemory } from '../host/facts.js';
import { describeFileError } from '../host/files.js';
import { OwnFolder } from '../host/own-folder.js';
import type { FilePiece, RamBase } from '../kvm/ram.js';
import { printable } from '../util/printable.js';
import { formatBytes, PAGE_BYTES } from '../util/units.js';
import {
  MANIFEST_NAME,
  MAX_CHAIN,
  MAX_MANIFEST_BYTES,
  MAX_PIECES,
  manifestSchema,
  type SavedMemory,
  SNAPSHOT_FOLDER,
  SNAPSHOT_FORMAT,
  type Snapshot,
} from './format.js';
import { hashPages, stampOf } from './memory-file.js';

/** A snapshot that is replaced while it is opened is opened anew. */
const MAX_TRIES = 10;

export interface OpenedSnapshot {
  readonly directory: string;
  readonly checksum: string;
  readonly snapshot: Snapshot;
  /** The memory files of the whole chain, open. Whoever takes it closes it. */
  readonly memory: RamBase;
}

/** A snapshot's folder, and what its `machine.json` says. */
export interface Manifest {
  readonly directory: string;
  readonly checksum: string;
  readonly snapshot: Snapshot;
}

/**
 * Reads a snapshot and those it is based on.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` with a sentence that says what is wrong with it.
 */
export async function openSnapshot(path: string, signal?: AbortSignal): Promise<OpenedSnapshot> {
  signal?.throwIfAborted();
  const directory = resolve(path);
  let top = { directory, ...(await readManifest(directory)) };
  for (let tries = 1; ; tries++) {
    try {
      return await openFrom(top, signal);
    } catch (error) {
      const now = await readManifest(directory);
      if (now.checksum === top.checksum || tries === MAX_TRIES) throw onOneLine(error);
      top = { directory, ...now };
    }
  }
}

/** The error with nothing that a terminal would obey: it may name a folder as the snapshot names it, that of its base. */
function onOneLine(error: unknown): unknown {
  if (!(error instanceof TsvmError)) return error;
  const { code, message, hint, cause } = error;
  return new TsvmError(code, printable(message), {
    ...(hint === undefined ? {} : { hint: printable(hint) }),
    cause,
  });
}

async function openFrom(top: Manifest, signal: AbortSignal | undefined): Promise<OpenedSnapshot> {
  const files: FileHandle[] = [];
  try {
    const pieces: FilePiece[] = [];
    for (const { directory, snapshot } of await readChain(top)) {
      const file = await openMemory(directory, snapshot.memory, signal);
      files.push(file);
      // The base first: what comes later is mapped over it.
      pieces.unshift(...piecesOf(file, snapshot.memory));
    }
    return { ...top, memory: fileBase(files, pieces) };
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

/**
 * `top`, what it is based on, and so on to one that is whole.
 *
 * @throws TsvmError `TSVM_SNAPSHOT`
 */
export async function readChain(top: Manifest): Promise<Manifest[]> {
  const chain = [top];
  let pieces = 0;
  for (let at = top; ; ) {
    pieces += at.snapshot.memory.pages.length;
    if (pieces > MAX_PIECES) throw refused(top.directory, `its memory is in more than ${MAX_PIECES} pieces`);
    const { base } = at.snapshot;
    if (base === undefined) return chain;
    if (chain.length === MAX_CHAIN)
      throw refused(top.directory, `more than ${MAX_CHAIN} differential snapshots in a row`);
    const below = await resolveBase(at.directory, base.directory);
    const read = await readManifest(below);
    if (read.checksum !== base.checksum)
      throw refused(at.directory, `the snapshot it is based on, ${below}, has been replaced since`);
    if (read.snapshot.memory.bytes !== top.snapshot.memory.bytes)
      throw refused(at.directory, `the snapshot it is based on, ${below}, has another size of memory`);
    at = { directory: below, ...read };
    chain.push(at);
  }
}

/** From where the folder is, not from where a link to it is. */
async function resolveBase(directory: string, base: string): Promise<string> {
  return resolve(await realpath(directory).catch(() => directory), base);
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
  let text: string;
  try {
    const file = await openIn(directory, MANIFEST_NAME);
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

/** Checks the text of a `machine.json`. @throws TsvmError `TSVM_SNAPSHOT` */
export function checkManifest(directory: string, text: string): { checksum: string; snapshot: Snapshot } {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw refused(directory, `${MANIFEST_NAME} is damaged: it is not JSON`);
  }
  const { format, checksum, snapshot } = (data ?? {}) as Partial<z.infer<typeof manifestSchema>>;
  if (format !== SNAPSHOT_FORMAT) throw refusedFormat(directory, format);
  // The text from the first field on is what was hashed; parsing and printing it again gives the same.
  const sum = createHash('sha256')
    .update(textOf(snapshot) ?? '')
    .digest('hex');
  if (sum !== checksum) throw refused(directory, `${MANIFEST_NAME} is damaged: its checksum does not fit`);
  const checked = manifestSchema.safeParse(data);
  if (!checked.success) {
    const issue = checked.error.issues[0];
    throw refused(directory, `${MANIFEST_NAME}: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  checkPages(directory, checked.data.snapshot);
  return checked.data;
}

/** As JSON; undefined if it is nested too deep to be a snapshot. */
function textOf(snapshot: unknown): string | undefined {
  try {
    return JSON.stringify(snapshot);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function checkPages(directory: string, { memory }: Snapshot): void {
  let end = 0;
  for (const [first, count] of memory.pages) {
    if (first < end || (first + count) * PAGE_BYTES > memory.bytes)
      throw refused(directory, 'its list of pages is not in order, or goes beyond its memory');
    end = first + count;
  }
}

async function openMemory(
  directory: string,
  memory: SavedMemory,
  signal: AbortSignal | undefined,
): Promise<FileHandle> {
  let file: FileHandle;
  try {
    file = await openIn(directory, memory.file);
  } catch (cause) {
    if (cause instanceof TsvmError) throw cause;
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
    if (!untouched) await checkContents(directory, file, memory, signal);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function checkContents(
  directory: string,
  file: FileHandle,
  memory: SavedMemory,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { totalBytes } = hostMemory();
  // Before hours go by over a file of holes.
  if (memory.bytes > totalBytes) {
    throw refused(
      directory,
      `it needs ${formatBytes(memory.bytes)} of memory, and this host has ${formatBytes(totalBytes)}`,
    );
  }
  if ((await hashPages(file, memory.pages, signal)) !== memory.sha256)
    throw refused(directory, `${memory.file} is damaged: its checksum does not fit`);
}

/** Opens a file of a snapshot's. The folder may be named by a link, as long as it is ours; the file may not be one. */
async function openIn(directory: string, name: string): Promise<FileHandle> {
  using folder = OwnFolder.open(await realpath(directory), { ...SNAPSHOT_FOLDER, rootsToo: true });
  if (folder === undefined) throw refused(directory, 'its folder was removed');
  return await folder.openFile(name);
}

/** Refuses a snapshot of another version's: only that one knows what its format means. */
function refusedFormat(directory: string, format: unknown): TsvmError {
  const later = typeof format === 'number' && format > SNAPSHOT_FORMAT;
  const version = typeof format === 'number' ? `format ${format}` : 'no known format';
  return refused(
    directory,
    `it has ${version}, and this tsvm reads format ${SNAPSHOT_FORMAT}`,
    later
      ? 'restore it with a later tsvm, like the one that saved it'
      : 'boot the machine anew and save it with this tsvm, or restore it with the one that saved it',
  );
}

/** @param why - may quote what a snapshot says of itself */
export function refused(
  directory: string,
  why: string,
  hint = 'save the machine again with this version, on this host',
): TsvmError {
  return new TsvmError('TSVM_SNAPSHOT', `${directory} cannot be restored: ${printable(why)}`, { hint });
}
