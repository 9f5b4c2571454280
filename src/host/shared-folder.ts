/**
 * A folder of the host as a file system for a guest, which never gets out of it.
 *
 * What the guest knows is held by descriptors opened with O_PATH, and every system call names one descriptor's object, or one name in
 * one descriptor's folder. A name has no slash and is not `..`, and a link is never followed; so there is no path that a link, or
 * somebody who moves folders meanwhile, could lead elsewhere. What is made has its owner and mode from its making: nothing is changed
 * by name afterwards. Each call is made for the guest's user, with no more rights than it needs (kvm-addon/src/caller.h).
 */
import { constants } from 'node:fs';
import {
  type AttributeChanges,
  type FileAttributes,
  type FileEntry,
  type FileOwner,
  type FileSystem,
  type FileSystemFacts,
  fileError,
  type KernelFileSystem,
  type RenameHow,
  type SetXattrHow,
  type StreamedEntry,
} from '../devices/fuse/file-system.js';
import { decodeName, encodeName } from '../devices/fuse/names.js';
import type { ShareOptions } from '../devices/host.js';
import { TsvmError } from '../errors.js';
import { S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK } from '../util/file-mode.js';
import { describeFileError } from './files.js';
import { Descriptor, type FolderCalls, FolderFacts, FolderIo } from './folder-io.js';
import { type FolderDirectory, listFolder } from './folder-list.js';
import type { FolderNode } from './folder-node.js';
import { FolderNodes } from './folder-nodes.js';
import { FolderXattrs } from './folder-xattrs.js';

const { O_APPEND, O_EXCL } = constants;
const FOLDER_HINT = 'give the path of a folder, and the name the guest mounts it by';
const PERMISSIONS = 0o777;
const STICKY = 0o1000;
/** Bytes that readdir() reads at a time. */
const LISTED_BYTES = 32_768;
/** PATH_MAX. */
const MAX_TARGET_BYTES = 4096;
/** <fcntl.h>, of unlinkat(2). */
const AT_REMOVEDIR = 0x200;
/** Most bytes that one request copies: the guest asks again for the rest, and a pause waits for no more. */
const MAX_COPY_BYTES = 16 << 20;
/** Flags of renameat2(2). */
const RENAME_FLAGS: Readonly<Record<RenameHow, number>> = { replace: 0, keep: 1, exchange: 2 };
const RENAME_WHITEOUT = 4;
/** User of a call that nobody of the guest asks for. */
const ROOT: FileOwner = { uid: 0, gid: 0 };

/** @throws TsvmError `TSVM_SHARE`, naming the path. */
export async function openSharedFolder(
  addon: FolderCalls,
  path: string,
  options: ShareOptions = {},
): Promise<SharedFolder> {
  const failed = shareError(path);
  const io = new FolderIo(addon);
  const facts = new FolderFacts();
  let root: Descriptor;
  try {
    root = new Descriptor(io, await io.callOpen('openRoot', Buffer.from(path), facts.words));
  } catch (cause) {
    await io.close();
    throw failed(describeFileError(cause), undefined, cause);
  }
  try {
    if (facts.type !== S_IFDIR) throw fileError('ENOTDIR');
    // By way of /proc, as files are opened.
    await root.use(async (fd) => io.closeFd(await io.call('openFile', ROOT, fd, constants.O_DIRECTORY)));
  } catch (cause) {
    root.close();
    await io.close();
    if ((cause as { code?: unknown }).code === 'ENOTDIR')
      throw failed('it is not a folder', undefined, cause);
    throw failed(describeFileError(cause), 'check its permissions, and that /proc is mounted', cause);
  }
  return new SharedFolder(io, new FolderNodes(io, root, facts), options);
}

/** Makes errors that name the folder. */
export function shareError(path: string): (what: string, hint?: string, cause?: unknown) => TsvmError {
  return (what, hint = FOLDER_HINT, cause) =>
    new TsvmError('TSVM_SHARE', `share ${path}: ${what}`, { hint, cause });
}

type OpenEntry = FileEntry<FolderNode> & { readonly file: Descriptor };

export class SharedFolder
  implements
    Required<FileSystem<FolderNode, Descriptor>>,
    KernelFileSystem<FolderNode, Descriptor, FolderDirectory>
{
  readonly killsPrivileges = true;
  readonly takesAnyName = true;
  readonly #io: FolderIo;
  readonly #nodes: FolderNodes;
  readonly #xattrs: FolderXattrs;

  constructor(io: FolderIo, nodes: FolderNodes, { xattr = false }: ShareOptions) {
    this.#io = io;
    this.#nodes = nodes;
    this.#xattrs = new FolderXattrs(io, nodes, xattr);
  }

  get root(): FolderNode {
    return this.#nodes.root;
  }

  /** Nodes that the guest knows, and folders above them, but for the root. */
  get knownNodes(): number {
    return this.#nodes.size;
  }

  lookup(parent: FolderNode, name: string, user = ROOT): Promise<FileEntry<FolderNode>> {
    return this.#nodes.lookup(parent, name, user);
  }

  forget(node: FolderNode, entries?: number): void {
    this.#nodes.forget(node, entries);
  }

  async getattr(node: FolderNode, file?: Descriptor, user = ROOT): Promise<FileAttributes> {
    const facts = new FolderFacts();
    const stat = (fd: number): Promise<number> => this.#io.callOpen('stat', fd, facts.words);
    await (file === undefined ? this.#nodes.use(node, user, stat) : file.use(stat));
    return facts.attributes;
  }

  async setattr(
    node: FolderNode,
    changes: AttributeChanges,
    file: Descriptor | undefined,
    user = ROOT,
  ): Promise<FileAttributes> {
    const { mode, sizeBytes } = changes;
    if (mode !== undefined && node.isLink) throw fileError('EOPNOTSUPP');
    if (sizeBytes !== undefined && !node.isFile) throw fileError('EINVAL');
    const permitted = mode === undefined ? changes : { ...changes, mode: permissionsOf(node.type, mode) };
    const facts = new FolderFacts();
    const caller = asMemberOf(changes, user);
    await this.#nodes.use(node, user, (fd) => {
      const set = (open: number): Promise<void> => this.#io.setAttributes(caller, fd, open, permitted, facts);
      return file === undefined ? set(-1) : file.use(set);
    });
    return facts.attributes;
  }

  async readlink(node: FolderNode, user = ROOT): Promise<string> {
    if (!node.isLink) throw fileError('EINVAL');
    const target = new Uint8Array(MAX_TARGET_BYTES);
    const length = await this.#nodes.use(node, user, (fd) => this.#io.call('readLink', user, fd, target));
    return decodeName(target.subarray(0, length));
  }

  async mknod(
    parent: FolderNode,
    name: string,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    return await this.mkspecial(parent, name, S_IFREG | mode, 0, owner);
  }

  async mkspecial(
    parent: FolderNode,
    name: string,
    mode: number,
    rdev: number,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    const type = mode & S_IFMT;
    // The guest's kernel serves pipes and sockets, and the host opens neither. A device would be one of the host's.
    const isWhiteout = type === S_IFCHR && rdev === 0;
    if (type !== S_IFREG && type !== S_IFIFO && type !== S_IFSOCK && !isWhiteout) throw fileError('EPERM');
    return await this.#nodes.make(parent, name, owner, (dir, { words }) =>
      this.#io.call('makeNode', owner, dir, encodeName(name), type | permissionsOf(type, mode), words),
    );
  }

  async mkdir(
    parent: FolderNode,
    name: string,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    return await this.#nodes.make(parent, name, owner, (dir, { words }) =>
      this.#io.call('makeFolder', owner, dir, encodeName(name), permissionsOf(S_IFDIR, mode), words),
    );
  }

  async symlink(
    parent: FolderNode,
    name: string,
    target: string,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    return await this.#nodes.make(parent, name, owner, (dir, { words }) =>
      this.#io.call('symlink', owner, dir, encodeName(name), encodeName(target), words),
    );
  }

  async link(
    node: FolderNode,
    parent: FolderNode,
    name: string,
    user = ROOT,
  ): Promise<FileEntry<FolderNode>> {
    return await this.#nodes.use(node, user, (fd) =>
      this.#nodes.make(parent, name, user, (dir, { words }) =>
        this.#io.call('link', user, fd, dir, encodeName(name), words),
      ),
    );
  }

  unlink(parent: FolderNode, name: string, user = ROOT): Promise<void> {
    return this.#remove(parent, name, 0, user);
  }

  rmdir(parent: FolderNode, name: string, user = ROOT): Promise<void> {
    return this.#remove(parent, name, AT_REMOVEDIR, user);
  }

  async #remove(parent: FolderNode, name: string, flags: number, user: FileOwner): Promise<void> {
    await this.#nodes.use(parent, user, async (dir) => {
      this.#nodes.checkPinned();
      const facts = new FolderFacts();
      const fd = await this.#io.call('unlink', user, dir, encodeName(name), flags, facts.words);
      this.#nodes.removed(parent, name, facts, fd);
    });
  }

  rename(
    parent: FolderNode,
    name: string,
    newParent: FolderNode,
    newName: string,
    how: RenameHow,
    user = ROOT,
  ): Promise<void> {
    return this.#rename(parent, name, newParent, newName, RENAME_FLAGS[how], user);
  }

  whiteout(
    parent: FolderNode,
    name: string,
    newParent: FolderNode,
    newName: string,
    how: 'replace' | 'keep',
    user: FileOwner,
  ): Promise<void> {
    return this.#rename(parent, name, newParent, newName, RENAME_FLAGS[how] | RENAME_WHITEOUT, user);
  }

  async #rename(
    parent: FolderNode,
    name: string,
    newParent: FolderNode,
    newName: string,
    flags: number,
    user: FileOwner,
  ): Promise<void> {
    const nodes = this.#nodes;
    await nodes.use(parent, user, (from) =>
      nodes.use(newParent, user, async (to) => {
        nodes.checkPinned();
        const [moved, other] = [new FolderFacts(), new FolderFacts()];
        const names = [encodeName(name), encodeName(newName)] as const;
        await this.#io.call('rename', user, from, names[0], to, names[1], flags, moved.words, other.words);
        if (other.isThere && other.descriptor >= 0)
          nodes.removed(newParent, newName, other, other.descriptor);
        nodes.moved(moved, newParent, newName, parent, name);
        if (other.isThere && other.descriptor < 0) nodes.moved(other, parent, name, newParent, newName);
      }),
    );
  }

  getxattr(node: FolderNode, name: string, user = ROOT): Promise<Uint8Array> {
    return this.#xattrs.get(node, name, user);
  }

  setxattr(node: FolderNode, name: string, value: Uint8Array, how: SetXattrHow, user = ROOT): Promise<void> {
    return this.#xattrs.set(node, name, value, how, user);
  }

  listxattr(node: FolderNode, user = ROOT): Promise<readonly string[]> {
    return this.#xattrs.list(node, user);
  }

  removexattr(node: FolderNode, name: string, user = ROOT): Promise<void> {
    return this.#xattrs.remove(node, name, user);
  }

  async open(node: FolderNode, flags: number, user = ROOT): Promise<Descriptor> {
    // What a pipe or a device of the host's does when it is opened is not the guest's business.
    if (!node.isFile) throw fileError(node.isFolder ? 'EISDIR' : 'ENXIO');
    const fd = await this.#nodes.use(node, user, (held) =>
      this.#io.call('openFile', user, held, positioned(flags) & ~O_EXCL),
    );
    return this.#nodes.opened(node, fd);
  }

  create(
    parent: FolderNode,
    name: string,
    flags: number,
    mode: number,
    owner: FileOwner,
  ): Promise<OpenEntry> {
    return this.#nodes.use(parent, owner, async (dir) => {
      this.#nodes.checkRoom();
      const facts = new FolderFacts();
      const how = howToMake(flags, mode);
      const fd = await this.#io.call('create', owner, dir, encodeName(name), ...how, facts.words);
      return this.#opened(this.#nodes.enter(facts, facts.descriptor, parent, name), fd);
    });
  }

  tmpfile(parent: FolderNode, flags: number, mode: number, owner: FileOwner): Promise<OpenEntry> {
    return this.#nodes.use(parent, owner, async (dir) => {
      this.#nodes.checkRoom();
      this.#nodes.checkPinned();
      const facts = new FolderFacts();
      const fd = await this.#io.call('createUnnamed', owner, dir, ...howToMake(flags, mode), facts.words);
      return this.#opened(this.#nodes.enter(facts, facts.descriptor), fd);
    });
  }

  #opened(entry: FileEntry<FolderNode>, fd: number): OpenEntry {
    return { ...entry, file: this.#nodes.opened(entry.node, fd) };
  }

  read(file: Descriptor, buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return file.use((fd) => this.#io.read(fd, buffers, offset));
  }

  write(file: Descriptor, buffers: readonly Uint8Array[], offset: number, append = false): Promise<number> {
    return file.use((fd) => this.#io.callOpen('write', fd, buffers, offset, append));
  }

  async fsync(file: Descriptor, dataOnly: boolean): Promise<void> {
    await file.use((fd) => this.#io.callOpen('sync', fd, dataOnly));
  }

  async allocate(file: Descriptor, mode: number, offset: number, length: number): Promise<void> {
    await file.use((fd) => this.#io.callOpen('allocate', fd, mode, offset, length));
  }

  seek(file: Descriptor, offset: number, whence: number): Promise<number> {
    return file.use((fd) => this.#io.callOpen('seek', fd, offset, whence));
  }

  copy(
    file: Descriptor,
    offset: number,
    newFile: Descriptor,
    newOffset: number,
    length: number,
  ): Promise<number> {
    const bytes = Math.min(length, MAX_COPY_BYTES);
    return file.use((fd) =>
      newFile.use((newFd) => this.#io.callOpen('copy', fd, offset, newFd, newOffset, bytes)),
    );
  }

  async release(file: Descriptor): Promise<void> {
    this.#nodes.closed(file);
    file.close();
  }

  async opendir(node: FolderNode, user = ROOT): Promise<FolderDirectory> {
    if (!node.isFolder) throw fileError('ENOTDIR');
    const fd = await this.#nodes.use(node, user, (held) => this.#io.call('openFolder', user, held));
    return { descriptor: new Descriptor(this.#io, fd), turn: Promise.resolve() };
  }

  list(
    directory: FolderDirectory,
    node: FolderNode,
    position: bigint,
    bytes: number,
    plus: boolean,
    user = ROOT,
  ): Promise<readonly StreamedEntry<FolderNode>[]> {
    return listFolder(this.#io, this.#nodes, { directory, node, position, bytes, plus, user });
  }

  async syncdir(directory: FolderDirectory, dataOnly: boolean): Promise<void> {
    await this.fsync(directory.descriptor, dataOnly);
  }

  async releasedir(directory: FolderDirectory): Promise<void> {
    directory.descriptor.close();
  }

  /** Lists all of a folder, without `.` and `..`, for who cannot go on where it was. */
  async readdir(node: FolderNode): Promise<readonly StreamedEntry<FolderNode>[]> {
    const directory = await this.opendir(node);
    const all: StreamedEntry<FolderNode>[] = [];
    try {
      for (let position = 0n; ; ) {
        const some = await this.list(directory, node, position, LISTED_BYTES, false);
        const last = some.at(-1);
        if (last === undefined) return all.filter(({ name }) => name !== '.' && name !== '..');
        position = last.next;
        all.push(...some);
      }
    } finally {
      await this.releasedir(directory);
    }
  }

  async statfs(): Promise<FileSystemFacts> {
    const [blockBytes = 0, blocks = 0, freeBlocks = 0, availableBlocks = 0, files = 0, freeFiles = 0] =
      await this.#nodes.use(this.root, ROOT, (fd) => this.#io.statfs(fd));
    return { blockBytes, blocks, freeBlocks, availableBlocks, files, freeFiles };
  }

  describe(node: FolderNode): unknown {
    return this.#nodes.describe(node);
  }

  recall(description: unknown): Promise<FolderNode> {
    return this.#nodes.recall(description, ROOT);
  }

  async close(): Promise<void> {
    this.#nodes.close();
    await this.#io.close();
  }
}

/** Mode without setuid and setgid: what the guest makes must give nobody on the host more than they have. */
const permissionsOf = (type: number, mode: number): number =>
  mode & (type === S_IFDIR ? PERMISSIONS | STICKY : PERMISSIONS);

/**
 * The user for whom a file gets another group. Its owner may give it to any group that they are in, which the guest's kernel has looked
 * at and FUSE does not tell: the host's is told that it is this one. The owner stays, and the host's kernel asks who that is.
 */
const asMemberOf = ({ gid }: AttributeChanges, user: FileOwner): FileOwner =>
  gid === undefined ? user : { ...user, gid };

/** Flags without O_APPEND: a page that was mapped is written back where it belongs. Each write says whether it appends. */
const positioned = (flags: number): number => flags & ~O_APPEND;

/** Flags and permissions of a file that is made and opened. */
const howToMake = (flags: number, mode: number): [flags: number, permissions: number] => [
  positioned(flags),
  permissionsOf(S_IFREG, mode),
];
