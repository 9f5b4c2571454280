/** Table of what the guest has open: files, and the listings of folders that it reads. */
import { checkState } from '../../util/state.js';
import {
  type DirectoryEntry,
  type FileOwner,
  type FileSystem,
  fileError,
  type KernelFileSystem,
} from '../backends/file-system.js';
import type { NodeTable } from './node-table.js';
import { O_ACCMODE, O_APPEND, O_DSYNC, O_EXCL, O_SYNC, O_TRUNC } from './protocol.js';

/** Most handles. Each is a descriptor of this process, which other machines need, too. */
const MAX_HANDLES = 1 << 12;
/** Names in all listings together. Beyond them the oldest is read again if the guest goes on with it. */
const MAX_LISTED = 1 << 20;
/** Flags of open(2) that a file system hears of when a file is opened again. Those that would empty or make it are not among them. */
const LASTING_FLAGS = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC;
/** Flags that it hears of besides when the guest opens one. */
const ONCE = O_EXCL | O_TRUNC;
export const OPEN_FLAGS: number = LASTING_FLAGS | ONCE;

interface Handle {
  readonly nodeId: number;
  readonly flags: number;
  /** File that is open. Undefined: of a folder, or not used since it was restored. */
  file: object | undefined;
  /** Stream of a folder. Undefined: of a file, of a folder whose listing is kept, or not used since it was restored. */
  directory: object | undefined;
  /** Listing of a folder, from the last time it was read from its beginning. */
  entries: readonly DirectoryEntry[] | undefined;
}

export type SavedHandle = readonly [id: number, nodeId: number, flags: number];

export class HandleTable {
  readonly #fileSystem: FileSystem & Partial<KernelFileSystem>;
  readonly #nodes: NodeTable;
  readonly #readOnly: boolean;
  readonly #handles = new Map<number, Handle>();
  #nextId = 1;
  #listed = 0;

  constructor(
    fileSystem: FileSystem & Partial<KernelFileSystem>,
    nodes: NodeTable,
    options: { readonly readOnly: boolean },
  ) {
    this.#fileSystem = fileSystem;
    this.#nodes = nodes;
    this.#readOnly = options.readOnly;
  }

  /** Throws ENFILE when there are too many. To be called before anything is opened. */
  checkRoom(): void {
    if (this.#handles.size >= MAX_HANDLES) throw fileError('ENFILE');
  }

  add(nodeId: number, flags: number, opened: Pick<Handle, 'file' | 'directory'>): number {
    const id = this.#nextId++;
    this.#handles.set(id, { nodeId, flags: flags & LASTING_FLAGS, ...opened, entries: undefined });
    return id;
  }

  #get(id: number): Handle {
    const handle = this.#handles.get(id);
    if (handle === undefined) throw fileError('EBADF');
    return handle;
  }

  /** Opens a file again if it was restored. Rejects with EBADF for one that the guest has not open. */
  async file(id: number): Promise<object> {
    const handle = this.#get(id);
    if (handle.file !== undefined) return handle.file;
    const file = await this.#fileSystem.open(this.#nodes.get(handle.nodeId), handle.flags);
    if (handle.file === undefined && this.#handles.get(id) === handle) handle.file = file;
    else await this.#fileSystem.release(file);
    if (handle.file === undefined) throw fileError('EBADF');
    return handle.file;
  }

  /** A folder that is read as a stream, and its node. Rejects with EBADF for one that the guest has not open. */
  async directory(id: number, user: FileOwner): Promise<{ directory: object; node: object }> {
    const handle = this.#get(id);
    const node = this.#nodes.get(handle.nodeId);
    if (handle.directory !== undefined) return { directory: handle.directory, node };
    const directory = await this.#fileSystem.opendir?.(node, user);
    if (handle.directory === undefined && this.#handles.get(id) === handle) handle.directory = directory;
    else if (directory !== undefined) await this.#fileSystem.releasedir?.(directory);
    if (handle.directory === undefined) throw fileError('EBADF');
    return { directory: handle.directory, node };
  }

  /** The listing that the guest reads; `anew` when it begins. */
  async entries(id: number, anew: boolean): Promise<readonly DirectoryEntry[]> {
    const handle = this.#get(id);
    if (!anew && handle.entries !== undefined) return handle.entries;
    const entries = await this.#fileSystem.readdir(this.#nodes.get(handle.nodeId));
    this.#drop(handle);
    // Unless it was closed meanwhile.
    if (this.#handles.get(id) === handle) this.#keep(handle, entries);
    return entries;
  }

  #keep(handle: Handle, entries: readonly DirectoryEntry[]): void {
    for (const other of this.#handles.values()) {
      if (this.#listed + entries.length <= MAX_LISTED) break;
      this.#drop(other);
    }
    handle.entries = entries;
    this.#listed += entries.length;
  }

  #drop(handle: Handle): void {
    this.#listed -= handle.entries?.length ?? 0;
    handle.entries = undefined;
  }

  async release(id: number): Promise<void> {
    const handle = this.#handles.get(id);
    this.#handles.delete(id);
    if (handle !== undefined) this.#drop(handle);
    if (handle?.file !== undefined) await this.#fileSystem.release(handle.file);
    if (handle?.directory !== undefined) await this.#fileSystem.releasedir?.(handle.directory);
  }

  get isEmpty(): boolean {
    return this.#handles.size === 0;
  }

  async clear(): Promise<void> {
    for (const id of [...this.#handles.keys()]) await this.release(id).catch(() => {});
  }

  save(): { nextHandle: number; handles: SavedHandle[] } {
    const handles = [...this.#handles].map(([id, { nodeId, flags }]): SavedHandle => [id, nodeId, flags]);
    return { nextHandle: this.#nextId, handles };
  }

  restore({ nextHandle, handles }: { nextHandle?: unknown; handles?: unknown }): void {
    checkState(Number.isSafeInteger(nextHandle) && (nextHandle as number) > 0, 'fs: the next handle');
    checkState(Array.isArray(handles) && handles.length <= MAX_HANDLES, 'fs: handles');
    for (const saved of handles as readonly unknown[]) {
      checkState(
        Array.isArray(saved) && saved.length === 3 && saved.every(Number.isSafeInteger),
        'fs: a handle',
      );
      const [id, nodeId, flags] = saved as [number, number, number];
      checkState(id > 0 && id < (nextHandle as number), 'fs: a handle');
      checkState((flags & LASTING_FLAGS) === flags, 'fs: the flags of a handle');
      // What was open for writing is read on where nothing may be written any more.
      const allowed = this.#readOnly ? flags & ~O_ACCMODE : flags;
      this.#handles.set(id, {
        nodeId,
        flags: allowed,
        file: undefined,
        directory: undefined,
        entries: undefined,
      });
    }
    this.#nextId = nextHandle as number;
  }
}
