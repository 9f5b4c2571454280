/** What of a shared folder the guest knows: where each file is, and the descriptors by which it is held. */
import type { BigIntStats } from 'node:fs';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import * as z from 'zod/mini';
import { type FileAttributes, type FileEntry, fileError } from '../devices/fuse/file-system.js';

/** <fcntl.h>; Node has no name for it. A descriptor that only says which file: nothing is opened. */
export const O_PATH = 0o10000000;
/** Descriptors of a share, beside those of files that the guest has open. */
const MAX_DESCRIPTORS = 1024;

export class FolderNode {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly type: number;
  /** Where it was seen last; undefined for the shared folder itself. */
  parent: FolderNode | undefined;
  name: string;
  /** Whether it has, or may have, no name any more: it is found by its descriptor only. */
  isPinned = false;
  /** Calls that need its descriptor. */
  users = 0;

  constructor(stats: BigIntStats, parent: FolderNode | undefined, name: string) {
    this.dev = stats.dev;
    this.ino = stats.ino;
    this.type = Number(stats.mode) & constants.S_IFMT;
    this.parent = parent;
    this.name = name;
  }

  get isFile(): boolean {
    return this.type === constants.S_IFREG;
  }

  get isFolder(): boolean {
    return this.type === constants.S_IFDIR;
  }

  get isLink(): boolean {
    return this.type === constants.S_IFLNK;
  }
}

/** Names from the shared folder down, and what must be there. */
const descriptionSchema = z.strictObject({
  path: z.array(
    z.string().check(
      z.regex(/^[^/\0]+$/),
      z.refine((name) => name !== '.' && name !== '..'),
    ),
  ),
  dev: z.string(),
  ino: z.string(),
});

export async function newFolderNodes(root: FileHandle): Promise<FolderNodes> {
  return new FolderNodes(root, new FolderNode(await root.stat({ bigint: true }), undefined, ''));
}

export class FolderNodes {
  readonly root: FolderNode;
  readonly #rootHandle: FileHandle;
  /** Those that the guest knows, by device and inode. */
  readonly #known = new Map<string, FolderNode>();
  /** The one used last comes last. */
  readonly #handles = new Map<FolderNode, FileHandle>();

  constructor(rootHandle: FileHandle, root: FolderNode) {
    this.#rootHandle = rootHandle;
    this.root = root;
  }

  /** Calls `action` with a path that is this node and no other, while it lasts. */
  async use<T>(node: FolderNode, action: (path: string) => Promise<T>): Promise<T> {
    node.users++;
    try {
      const { fd } = node === this.root ? this.#rootHandle : await this.#handleOf(node);
      return await action(`/proc/self/fd/${fd}`);
    } finally {
      node.users--;
    }
  }

  /** Calls `action` with a path that names this node in its folder, and must not be followed. For links, which have no other. */
  async useName<T>(node: FolderNode, action: (path: string) => Promise<T>): Promise<T> {
    if (node.parent === undefined) throw fileError('EINVAL');
    return await this.use(node.parent, (path) => action(`${path}/${node.name}`));
  }

  async lookup(parent: FolderNode, name: string): Promise<FileEntry<FolderNode>> {
    const handle = await this.#open(parent, name);
    try {
      const stats = await handle.stat({ bigint: true });
      const key = keyOf(stats);
      const root = key === keyOf(this.root);
      const known = root ? this.root : this.#known.get(key);
      const node = known ?? new FolderNode(stats, parent, name);
      if (known === undefined) this.#known.set(key, node);
      if (root || this.#handles.has(node)) await handle.close();
      else this.#keep(node, handle);
      if (!root) {
        node.parent = parent;
        node.name = name;
        node.isPinned = false;
      }
      return { node, attributes: attributesOf(stats) };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async attributes(node: FolderNode): Promise<FileAttributes> {
    if (node === this.root) return attributesOf(await this.#rootHandle.stat({ bigint: true }));
    node.users++;
    try {
      return attributesOf(await (await this.#handleOf(node)).stat({ bigint: true }));
    } finally {
      node.users--;
    }
  }

  /** If the guest knows what is there, it is held from now on: its name is about to go. */
  async pin(parent: FolderNode, name: string): Promise<void> {
    const handle = await this.#open(parent, name).catch(() => undefined);
    if (handle === undefined) return;
    const node = this.#known.get(keyOf(await handle.stat({ bigint: true })));
    if (node === undefined || this.#handles.has(node)) await handle.close();
    else this.#keep(node, handle);
    if (node !== undefined) node.isPinned = true;
  }

  /** The guest has no use for it any more. */
  forget(node: FolderNode): void {
    if (node === this.root) return;
    this.#known.delete(keyOf(node));
    const handle = this.#handles.get(node);
    if (handle === undefined || node.users > 0) return;
    this.#handles.delete(node);
    handle.close().catch(() => {});
  }

  async #handleOf(node: FolderNode): Promise<FileHandle> {
    const open = this.#handles.get(node);
    if (open !== undefined) {
      this.#handles.delete(node);
      this.#handles.set(node, open);
      return open;
    }
    if (node.parent === undefined || node.isPinned) throw fileError('ESTALE');
    const handle = await this.#open(node.parent, node.name).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOENT' ? fileError('ESTALE') : error;
    });
    const { dev, ino } = await handle.stat({ bigint: true });
    const meanwhile = this.#handles.get(node);
    if (dev !== node.dev || ino !== node.ino || meanwhile !== undefined) {
      await handle.close();
      if (meanwhile === undefined) throw fileError('ESTALE');
      return meanwhile;
    }
    this.#keep(node, handle);
    return handle;
  }

  #open(parent: FolderNode, name: string): Promise<FileHandle> {
    return this.use(parent, (path) => open(`${path}/${name}`, O_PATH | constants.O_NOFOLLOW));
  }

  #keep(node: FolderNode, handle: FileHandle): void {
    this.#handles.set(node, handle);
    if (this.#handles.size <= MAX_DESCRIPTORS) return;
    for (const [old, oldHandle] of this.#handles) {
      if (old === node || old.users > 0 || old.isPinned) continue;
      this.#handles.delete(old);
      oldHandle.close().catch(() => {});
      return;
    }
  }

  describe(node: FolderNode): unknown {
    if (node.isPinned) return undefined;
    const path: string[] = [];
    for (let at: FolderNode = node; at.parent !== undefined; at = at.parent) path.unshift(at.name);
    return { path, dev: String(node.dev), ino: String(node.ino) };
  }

  async recall(description: unknown): Promise<FolderNode> {
    const { data } = descriptionSchema.safeParse(description);
    if (data === undefined) throw fileError('ESTALE');
    let node = this.root;
    for (const name of data.path) ({ node } = await this.lookup(node, name));
    if (String(node.dev) !== data.dev || String(node.ino) !== data.ino) throw fileError('ESTALE');
    return node;
  }

  async close(): Promise<void> {
    const handles = [...this.#handles.values(), this.#rootHandle];
    this.#handles.clear();
    this.#known.clear();
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

function keyOf({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev}:${ino}`;
}

function attributesOf(stats: BigIntStats): FileAttributes {
  return {
    ino: stats.ino,
    sizeBytes: Number(stats.size),
    blocks: Number(stats.blocks),
    mode: Number(stats.mode),
    nlink: Number(stats.nlink),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    rdev: Number(stats.rdev),
    blockBytes: Number(stats.blksize),
    atimeNs: stats.atimeNs,
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
  };
}
