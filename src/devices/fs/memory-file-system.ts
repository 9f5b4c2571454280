/** A file system in this process's memory: the example of one in TypeScript, and what the device is tested with. */
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../util/file-mode.js';
import { totalBytes } from '../../util/units.js';
import {
  type AttributeChanges,
  type DirectoryEntry,
  type FileAttributes,
  type FileEntry,
  type FileOwner,
  type FileSystem,
  fileError,
  type RenameHow,
} from '../backends/file-system.js';
import { O_EXCL, O_TRUNC } from './protocol.js';

const BLOCK_BYTES = 4096;
const DEFAULT_MAX_BYTES = 64 * 1024 * 1024;

/** A file, folder or link. Its content is the one of `data`, `entries` and `target` that its type has. */
export class MemoryNode {
  readonly ino: bigint;
  mode: number;
  uid: number;
  gid: number;
  nlink = 1;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  data: Uint8Array = new Uint8Array(0);
  readonly entries = new Map<string, MemoryNode>();
  target = '';

  constructor(ino: bigint, mode: number, { uid, gid }: FileOwner, nowNs: bigint) {
    this.ino = ino;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.atimeNs = this.mtimeNs = this.ctimeNs = nowNs;
  }

  get type(): number {
    return this.mode & S_IFMT;
  }
}

/** File that is open. */
export interface MemoryFile {
  readonly node: MemoryNode;
}

const ROOT_OWNER: FileOwner = { uid: 0, gid: 0 };

export class MemoryFileSystem implements FileSystem<MemoryNode, MemoryFile> {
  readonly root: MemoryNode;
  readonly #maxBytes: number;
  #bytes = 0;
  #nextIno = 1n;

  /** @param files contents by path, such as `bin/hello` */
  constructor(
    files: Readonly<Record<string, string | Uint8Array>> = {},
    maxBytes: number = DEFAULT_MAX_BYTES,
  ) {
    this.#maxBytes = maxBytes;
    this.root = this.#newNode(S_IFDIR | 0o755, ROOT_OWNER);
    for (const [path, content] of Object.entries(files)) this.#put(path, content);
  }

  #put(path: string, content: string | Uint8Array): void {
    const names = path.split('/').filter((name) => name !== '');
    const last = names.pop() ?? 'file';
    let folder = this.root;
    for (const name of names) {
      const next = folder.entries.get(name) ?? this.#newNode(S_IFDIR | 0o755, ROOT_OWNER);
      folder.entries.set(name, next);
      folder = next;
    }
    const node = this.#newNode(S_IFREG | 0o755, ROOT_OWNER);
    const data = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    this.#resize(node, data.length);
    node.data.set(data);
    folder.entries.set(last, node);
  }

  #newNode(mode: number, owner: FileOwner): MemoryNode {
    return new MemoryNode(this.#nextIno++, mode, owner, nowNs());
  }

  async lookup(parent: MemoryNode, name: string): Promise<FileEntry<MemoryNode>> {
    return entry(child(parent, name));
  }

  async getattr(node: MemoryNode): Promise<FileAttributes> {
    return attributes(node);
  }

  async setattr(node: MemoryNode, changes: AttributeChanges): Promise<FileAttributes> {
    const { mode, uid, gid, sizeBytes, atimeNs, mtimeNs } = changes;
    if (sizeBytes !== undefined) this.#resize(node, sizeBytes);
    if (mode !== undefined) node.mode = node.type | mode;
    if (uid !== undefined) node.uid = uid;
    if (gid !== undefined) node.gid = gid;
    if (atimeNs !== undefined) node.atimeNs = atimeNs === 'now' ? nowNs() : atimeNs;
    if (mtimeNs !== undefined) node.mtimeNs = mtimeNs === 'now' ? nowNs() : mtimeNs;
    node.ctimeNs = nowNs();
    return attributes(node);
  }

  async readlink(node: MemoryNode): Promise<string> {
    return node.target;
  }

  async mknod(
    parent: MemoryNode,
    name: string,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<MemoryNode>> {
    return entry(this.#add(parent, name, this.#newNode(S_IFREG | mode, owner)));
  }

  async mkdir(
    parent: MemoryNode,
    name: string,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<MemoryNode>> {
    return entry(this.#add(parent, name, this.#newNode(S_IFDIR | mode, owner)));
  }

  async symlink(
    parent: MemoryNode,
    name: string,
    target: string,
    owner: FileOwner,
  ): Promise<FileEntry<MemoryNode>> {
    const node = this.#add(parent, name, this.#newNode(S_IFLNK | 0o777, owner));
    node.target = target;
    return entry(node);
  }

  async link(node: MemoryNode, parent: MemoryNode, name: string): Promise<FileEntry<MemoryNode>> {
    this.#add(parent, name, node);
    node.nlink++;
    return entry(node);
  }

  #add(parent: MemoryNode, name: string, node: MemoryNode): MemoryNode {
    if (parent.type !== S_IFDIR) throw fileError('ENOTDIR');
    if (parent.entries.has(name)) throw fileError('EEXIST');
    parent.entries.set(name, node);
    parent.mtimeNs = parent.ctimeNs = nowNs();
    return node;
  }

  async unlink(parent: MemoryNode, name: string): Promise<void> {
    if (child(parent, name).type === S_IFDIR) throw fileError('EISDIR');
    this.#remove(parent, name);
  }

  async rmdir(parent: MemoryNode, name: string): Promise<void> {
    const node = child(parent, name);
    if (node.type !== S_IFDIR) throw fileError('ENOTDIR');
    if (node.entries.size > 0) throw fileError('ENOTEMPTY');
    this.#remove(parent, name);
  }

  #remove(parent: MemoryNode, name: string): void {
    const node = child(parent, name);
    parent.entries.delete(name);
    parent.mtimeNs = parent.ctimeNs = nowNs();
    if (--node.nlink === 0) this.#bytes -= node.data.length;
  }

  async rename(
    parent: MemoryNode,
    name: string,
    newParent: MemoryNode,
    newName: string,
    how: RenameHow = 'replace',
  ): Promise<void> {
    const node = child(parent, name);
    const old = newParent.entries.get(newName);
    if (how === 'keep' && old !== undefined) throw fileError('EEXIST');
    if (how === 'exchange') {
      if (old === undefined) throw fileError('ENOENT');
      parent.entries.set(name, old);
      newParent.entries.set(newName, node);
      return;
    }
    if (old === node) return;
    if (old !== undefined) {
      if (old.type === S_IFDIR) await this.rmdir(newParent, newName);
      else await this.unlink(newParent, newName);
    }
    parent.entries.delete(name);
    this.#add(newParent, newName, node);
  }

  async open(node: MemoryNode, flags: number): Promise<MemoryFile> {
    if (node.type !== S_IFREG) throw fileError('EISDIR');
    if ((flags & O_TRUNC) !== 0) this.#resize(node, 0);
    return { node };
  }

  async create(
    parent: MemoryNode,
    name: string,
    flags: number,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<MemoryNode> & { readonly file: MemoryFile }> {
    const there = parent.entries.get(name);
    if (there !== undefined && (flags & O_EXCL) !== 0) throw fileError('EEXIST');
    const node = there ?? this.#add(parent, name, this.#newNode(S_IFREG | mode, owner));
    return { ...entry(node), file: await this.open(node, flags) };
  }

  async read({ node }: MemoryFile, buffers: readonly Uint8Array[], offset: number): Promise<number> {
    let at = offset;
    for (const buffer of buffers) {
      const bytes = node.data.subarray(at, at + buffer.length);
      buffer.set(bytes);
      at += bytes.length;
      if (bytes.length < buffer.length) break;
    }
    return at - offset;
  }

  async write({ node }: MemoryFile, buffers: readonly Uint8Array[], offset: number): Promise<number> {
    const length = totalBytes(buffers);
    if (offset + length > node.data.length) this.#resize(node, offset + length);
    let at = offset;
    for (const buffer of buffers) {
      node.data.set(buffer, at);
      at += buffer.length;
    }
    node.mtimeNs = node.ctimeNs = nowNs();
    return length;
  }

  #resize(node: MemoryNode, bytes: number): void {
    if (this.#bytes - node.data.length + bytes > this.#maxBytes) throw fileError('ENOSPC');
    this.#bytes += bytes - node.data.length;
    const data = new Uint8Array(bytes);
    data.set(node.data.subarray(0, bytes));
    node.data = data;
    node.mtimeNs = node.ctimeNs = nowNs();
  }

  async release(): Promise<void> {}

  async readdir(node: MemoryNode): Promise<readonly DirectoryEntry[]> {
    if (node.type !== S_IFDIR) throw fileError('ENOTDIR');
    return [...node.entries].map(([name, { ino, type }]) => ({ name, ino, type }));
  }
}

function child(parent: MemoryNode, name: string): MemoryNode {
  const node = parent.entries.get(name);
  if (node === undefined) throw fileError('ENOENT');
  return node;
}

function entry(node: MemoryNode): FileEntry<MemoryNode> {
  return { node, attributes: attributes(node) };
}

function attributes(node: MemoryNode): FileAttributes {
  const sizeBytes = node.type === S_IFLNK ? node.target.length : node.data.length;
  const { ino, mode, nlink, uid, gid, atimeNs, mtimeNs, ctimeNs } = node;
  const blocks = Math.ceil(sizeBytes / 512);
  return {
    ino,
    sizeBytes,
    blocks,
    mode,
    nlink,
    uid,
    gid,
    rdev: 0,
    blockBytes: BLOCK_BYTES,
    atimeNs,
    mtimeNs,
    ctimeNs,
  };
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
