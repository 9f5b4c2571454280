/**
 * A folder of the host as a file system for a guest, which never gets out of it.
 *
 * What the guest knows is held by descriptors opened with O_PATH, and every system call names one descriptor's object
 * (`/proc/self/fd/N`) or one name in one descriptor's folder (`/proc/self/fd/N/name`). A name has no slash and is not `..`, and the
 * last component is never followed; so there is no path that a link, or somebody who moves folders meanwhile, could lead
 * elsewhere.
 *
 * Descriptors are few, and files many: those that were not used for long are closed, and opened again by name. What is then found
 * must be the same by device and inode.
 */
import { constants } from 'node:fs';
import {
  chmod,
  chown,
  type FileHandle,
  lchown,
  link,
  lutimes,
  mkdir,
  open,
  readdir,
  readlink,
  rmdir,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
} from 'node:fs/promises';
import {
  type AttributeChanges,
  type DirectoryEntry,
  type FileAttributes,
  type FileEntry,
  type FileOwner,
  type FileSystem,
  type FileSystemFacts,
  fileError,
  type RenameHow,
  type SetXattrHow,
} from '../devices/fuse/file-system.js';
import type { ShareOptions } from '../devices/host.js';
import { TsvmError } from '../errors.js';
import type { NativeAddon } from '../native/binding.js';
import { describeFileError } from './files.js';
import { type FolderNode, type FolderNodes, newFolderNodes, O_PATH } from './folder-nodes.js';

const { O_NOFOLLOW, O_NONBLOCK, O_CREAT, O_EXCL } = constants;
const FOLDER_HINT = 'give the path of a folder, and the name the guest mounts it by';
const PERMISSIONS = 0o777;
const STICKY = 0o1000;
const MODE_BITS = 0o7777;
const USER_XATTR = 'user.';
/** Flags of renameat2(2), and of setxattr(2). */
const RENAME_FLAGS: Readonly<Record<RenameHow, number>> = { replace: 0, keep: 1, exchange: 2 };
const SET_XATTR_FLAGS: Readonly<Record<SetXattrHow, number>> = { set: 0, create: 1, replace: 2 };

/** What of the addon it takes. */
export type FolderCalls = Pick<
  NativeAddon,
  'fallocate' | 'rename' | 'getxattr' | 'setxattr' | 'listxattr' | 'removexattr'
>;

/** @throws TsvmError `TSVM_SHARE`, naming the path. */
export async function openSharedFolder(
  addon: FolderCalls,
  path: string,
  options: ShareOptions = {},
): Promise<SharedFolder> {
  const failed = (what: string, hint: string, cause?: unknown): TsvmError =>
    new TsvmError('TSVM_SHARE', `share ${path}: ${what}`, { hint, cause });
  let root: FileHandle;
  try {
    root = await open(path, O_PATH);
  } catch (cause) {
    throw failed(describeFileError(cause), FOLDER_HINT, cause);
  }
  try {
    if (!(await root.stat()).isDirectory()) throw fileError('ENOTDIR');
    await readdir(`/proc/self/fd/${root.fd}`);
  } catch (cause) {
    await root.close();
    if ((cause as { code?: unknown }).code === 'ENOTDIR')
      throw failed('it is not a folder', FOLDER_HINT, cause);
    throw failed(describeFileError(cause), 'check its permissions, and that /proc is mounted', cause);
  }
  return new SharedFolder(addon, await newFolderNodes(root), options);
}

export class SharedFolder implements Required<FileSystem<FolderNode, FileHandle>> {
  readonly #addon: FolderCalls;
  readonly #nodes: FolderNodes;
  readonly #xattr: boolean;
  /** Root gives what is made to the guest's user; anybody else has it. */
  readonly #givesAway = process.geteuid?.() === 0;

  constructor(addon: FolderCalls, nodes: FolderNodes, { xattr = false }: ShareOptions) {
    this.#addon = addon;
    this.#nodes = nodes;
    this.#xattr = xattr;
  }

  get root(): FolderNode {
    return this.#nodes.root;
  }

  lookup(parent: FolderNode, name: string): Promise<FileEntry<FolderNode>> {
    return this.#nodes.lookup(parent, name);
  }

  forget(node: FolderNode): void {
    this.#nodes.forget(node);
  }

  async getattr(node: FolderNode): Promise<FileAttributes> {
    return await this.#nodes.attributes(node);
  }

  async setattr(
    node: FolderNode,
    changes: AttributeChanges,
    file: FileHandle | undefined,
  ): Promise<FileAttributes> {
    const { mode, uid, gid, sizeBytes, atimeNs, mtimeNs } = changes;
    await this.#nodes.use(node, async (path) => {
      if (uid !== undefined || gid !== undefined) {
        await this.#chown(node, path, uid ?? -1, gid ?? -1);
      }
      if (mode !== undefined) {
        if (node.isLink) throw fileError('EOPNOTSUPP');
        await chmod(path, permissionsOf(node, mode));
      }
      if (sizeBytes !== undefined) {
        if (!node.isFile) throw fileError('EINVAL');
        // By the open file where there is one: it may be written to though its permissions are gone.
        await (file?.truncate(sizeBytes) ?? truncate(path, sizeBytes));
      }
      if (atimeNs !== undefined || mtimeNs !== undefined) {
        const now = await this.#nodes.attributes(node);
        const times = [seconds(atimeNs ?? now.atimeNs), seconds(mtimeNs ?? now.mtimeNs)] as const;
        if (node.isLink) await this.#nodes.useName(node, (named) => lutimes(named, ...times));
        else await utimes(path, ...times);
      }
    });
    return await this.#nodes.attributes(node);
  }

  async #chown(node: FolderNode, path: string, uid: number, gid: number): Promise<void> {
    if (node.isLink) await this.#nodes.useName(node, (named) => lchown(named, uid, gid));
    else await chown(path, uid, gid);
  }

  /**
   * Has what was just made be the guest's, with the mode that its kernel asked for, where they differ: the host has left out what this
   * process's umask has, and chown(2) takes some of the rest away.
   */
  async #give(
    made: FileEntry<FolderNode>,
    mode: number,
    { uid, gid }: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    const { node, attributes: there } = made;
    const permissions = permissionsOf(node, mode);
    const givenAway = this.#givesAway && (there.uid !== uid || there.gid !== gid);
    if (!givenAway && (there.mode & MODE_BITS) === permissions) return made;
    try {
      await this.#nodes.use(node, async (path) => {
        if (givenAway) await this.#chown(node, path, uid, gid);
        if (!node.isLink) await chmod(path, permissions);
      });
      return { node, attributes: await this.getattr(node) };
    } catch (error) {
      this.#nodes.forget(node); // the guest never hears of it
      throw error;
    }
  }

  async readlink(node: FolderNode): Promise<string> {
    if (!node.isLink) throw fileError('EINVAL');
    return await this.#nodes.useName(node, (path) => readlink(path));
  }

  async mknod(
    parent: FolderNode,
    name: string,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    const { file, ...made } = await this.create(parent, name, O_EXCL, mode, owner);
    await file.close();
    return made;
  }

  async mkdir(
    parent: FolderNode,
    name: string,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    await this.#nodes.use(parent, (path) => mkdir(`${path}/${name}`, { mode: mode & PERMISSIONS }));
    return await this.#give(await this.lookup(parent, name), mode, owner);
  }

  async symlink(
    parent: FolderNode,
    name: string,
    target: string,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode>> {
    await this.#nodes.use(parent, (path) => symlink(target, `${path}/${name}`));
    return await this.#give(await this.lookup(parent, name), PERMISSIONS, owner);
  }

  async link(node: FolderNode, parent: FolderNode, name: string): Promise<FileEntry<FolderNode>> {
    await this.#nodes.useName(node, (from) =>
      this.#nodes.use(parent, (path) => link(from, `${path}/${name}`)),
    );
    return await this.lookup(parent, name);
  }

  async unlink(parent: FolderNode, name: string): Promise<void> {
    await this.#nodes.pin(parent, name);
    await this.#nodes.use(parent, (path) => unlink(`${path}/${name}`));
  }

  async rmdir(parent: FolderNode, name: string): Promise<void> {
    await this.#nodes.pin(parent, name);
    await this.#nodes.use(parent, (path) => rmdir(`${path}/${name}`));
  }

  async rename(
    parent: FolderNode,
    name: string,
    newParent: FolderNode,
    newName: string,
    how: RenameHow,
  ): Promise<void> {
    if (how === 'replace') await this.#nodes.pin(newParent, newName);
    await this.#nodes.use(parent, (from) =>
      this.#nodes.use(newParent, (to) =>
        this.#addon.rename(`${from}/${name}`, `${to}/${newName}`, RENAME_FLAGS[how]),
      ),
    );
    // From now on they are found there.
    await this.lookup(newParent, newName).catch(() => {});
    if (how === 'exchange') await this.lookup(parent, name).catch(() => {});
  }

  async getxattr(node: FolderNode, name: string): Promise<Uint8Array> {
    this.#checkXattr(node, name);
    return await this.#nodes.use(node, (path) => this.#addon.getxattr(path, name));
  }

  async setxattr(node: FolderNode, name: string, value: Uint8Array, how: SetXattrHow): Promise<void> {
    this.#checkXattr(node, name);
    await this.#nodes.use(node, (path) => this.#addon.setxattr(path, name, value, SET_XATTR_FLAGS[how]));
  }

  async listxattr(node: FolderNode): Promise<readonly string[]> {
    if (!this.#xattr) throw fileError('ENOSYS');
    if (!node.isFile && !node.isFolder) return [];
    const names = await this.#nodes.use(node, (path) => this.#addon.listxattr(path));
    return Buffer.from(names)
      .toString()
      .split('\0')
      .filter((name) => name.startsWith(USER_XATTR));
  }

  async removexattr(node: FolderNode, name: string): Promise<void> {
    this.#checkXattr(node, name);
    await this.#nodes.use(node, (path) => this.#addon.removexattr(path, name));
  }

  /** The other namespaces give rights on the host, or say what those of the host are. Links and devices have none. */
  #checkXattr(node: FolderNode, name: string): void {
    if (!this.#xattr) throw fileError('ENOSYS');
    if (!name.startsWith(USER_XATTR)) throw fileError('EOPNOTSUPP');
    if (!node.isFile && !node.isFolder) throw fileError('EPERM');
  }

  async open(node: FolderNode, flags: number): Promise<FileHandle> {
    // What a pipe or a device of the host's does when it is opened is not the guest's business.
    if (!node.isFile) throw fileError(node.isFolder ? 'EISDIR' : 'ENXIO');
    return await this.#nodes.use(node, (path) => open(path, flags));
  }

  async create(
    parent: FolderNode,
    name: string,
    flags: number,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<FolderNode> & { readonly file: FileHandle }> {
    const file = await this.#nodes.use(parent, async (path) => {
      const how = flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK;
      return await open(`${path}/${name}`, how, mode & PERMISSIONS).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST' || (flags & O_EXCL) !== 0) throw error;
      });
    });
    if (file === undefined) {
      const { node } = await this.lookup(parent, name);
      const there = await this.open(node, flags & ~O_EXCL);
      return { node, attributes: await this.getattr(node), file: there };
    }
    try {
      return { ...(await this.#give(await this.lookup(parent, name), mode, owner)), file };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async read(file: FileHandle, buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return (await file.readv(buffers, offset)).bytesRead;
  }

  async write(file: FileHandle, buffers: readonly Uint8Array[], offset: number): Promise<number> {
    return (await file.writev(buffers, offset)).bytesWritten;
  }

  async fsync(file: FileHandle, dataOnly: boolean): Promise<void> {
    await (dataOnly ? file.datasync() : file.sync());
  }

  async allocate(file: FileHandle, mode: number, offset: number, length: number): Promise<void> {
    await this.#addon.fallocate(file.fd, mode, offset, length);
  }

  async release(file: FileHandle): Promise<void> {
    await file.close();
  }

  async readdir(node: FolderNode): Promise<readonly DirectoryEntry[]> {
    const entries = await this.#nodes.use(node, (path) =>
      readdir(path, { withFileTypes: true, encoding: 'buffer' }),
    );
    const listed: DirectoryEntry[] = [];
    for (const entry of entries) {
      const name = entry.name.toString();
      // A name that is not UTF-8 cannot be said to the guest.
      if (Buffer.from(name).equals(entry.name)) listed.push({ name, ino: UNKNOWN_INO, type: typeOf(entry) });
    }
    return listed;
  }

  async statfs(): Promise<FileSystemFacts> {
    const facts = await this.#nodes.use(this.root, (path) => statfs(path));
    return {
      blockBytes: facts.bsize,
      blocks: facts.blocks,
      freeBlocks: facts.bfree,
      availableBlocks: facts.bavail,
      files: facts.files,
      freeFiles: facts.ffree,
    };
  }

  describe(node: FolderNode): unknown {
    return this.#nodes.describe(node);
  }

  recall(description: unknown): Promise<FolderNode> {
    return this.#nodes.recall(description);
  }

  async close(): Promise<void> {
    await this.#nodes.close();
  }
}

/** FUSE_UNKNOWN_INO: what a listing says where it would take a call for each name to know. */
const UNKNOWN_INO = 0xffff_ffffn;

function typeOf(entry: {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  isFIFO(): boolean;
  isSocket(): boolean;
  isCharacterDevice(): boolean;
  isBlockDevice(): boolean;
}): number {
  if (entry.isFile()) return constants.S_IFREG;
  if (entry.isDirectory()) return constants.S_IFDIR;
  if (entry.isSymbolicLink()) return constants.S_IFLNK;
  if (entry.isFIFO()) return constants.S_IFIFO;
  if (entry.isSocket()) return constants.S_IFSOCK;
  if (entry.isCharacterDevice()) return constants.S_IFCHR;
  return entry.isBlockDevice() ? constants.S_IFBLK : 0;
}

/** Never setuid or setgid: what the guest makes must give nobody on the host more than they have. */
const permissionsOf = (node: FolderNode, mode: number): number =>
  mode & (node.isFolder ? PERMISSIONS | STICKY : PERMISSIONS);

/** What utimes() takes: seconds, as a fraction. */
function seconds(time: bigint | 'now'): number {
  return time === 'now' ? Date.now() / 1000 : Number(time) / 1e9;
}
