/** A file system as a guest's share is served from it: the host's folder, or one that a library's user writes. */

export interface ShareOptions {
  /** Extended attributes of the user namespace. Default: the guest is told that there are none. */
  readonly xattr?: boolean;
}

/** Attributes of a file, as stat(2) has them. */
export interface FileAttributes {
  readonly ino: bigint;
  readonly sizeBytes: number;
  /** Blocks of 512 bytes. */
  readonly blocks: number;
  /** Type and permissions. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blockBytes: number;
  /** Nanoseconds since 1970. */
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** Changes of chmod(2), chown(2), truncate(2) and utimensat(2). */
export interface AttributeChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  readonly atimeNs?: bigint | 'now';
  readonly mtimeNs?: bigint | 'now';
}

/** User of the process in the guest that asks. What it makes is its own. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Way of rename(2) when there is something of the new name already: its flags in words. */
export type RenameHow = 'replace' | 'keep' | 'exchange';

/** Way of setxattr(2) when there is an attribute of this name already, or none. */
export type SetXattrHow = 'set' | 'create' | 'replace';

export interface FileEntry<Node> {
  readonly node: Node;
  readonly attributes: FileAttributes;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly ino: bigint;
  /** S_IFMT of its mode. */
  readonly type: number;
}

/** Facts about a whole file system, as statfs(2) has them. */
export interface FileSystemFacts {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
}

/**
 * Everything is asynchronous, and several calls may be under way at once. What fails rejects with an error that has an errno's
 * name as its `code`, as Node's have (`ENOENT`); without one, the guest sees EIO.
 *
 * `Node` is a file, folder or link, known to the guest by some name or by none any more; the same object each time that the same
 * one is looked up, as long as it was not forgotten. `File` is one that is open. Names are never empty, `.`, `..`, longer than 255
 * bytes, or with `/` or NUL in them. Where a method is missing, the guest sees ENOSYS, and does without.
 */
export interface FileSystem<Node extends object = object, File extends object = object> {
  readonly root: Node;
  lookup(parent: Node, name: string, user?: FileOwner): Promise<FileEntry<Node>>;
  /**
   * Lets go of a node that the guest has no use for any more. It may be looked up again.
   *
   * @param entries how many entries of it were handed out since it was first, or since this was called last, as far as the guest was
   * told of them: another request may be handed one meanwhile
   */
  forget?(node: Node, entries?: number): void;
  getattr(node: Node, file: File | undefined, user?: FileOwner): Promise<FileAttributes>;
  /** Makes all of the changes, in the order of {@link AttributeChanges}. */
  setattr?(
    node: Node,
    changes: AttributeChanges,
    file: File | undefined,
    user?: FileOwner,
  ): Promise<FileAttributes>;
  readlink?(node: Node, user?: FileOwner): Promise<string>;
  /** A regular file. */
  mknod?(parent: Node, name: string, mode: number, owner: FileOwner): Promise<FileEntry<Node>>;
  mkdir?(parent: Node, name: string, mode: number, owner: FileOwner): Promise<FileEntry<Node>>;
  symlink?(parent: Node, name: string, target: string, owner: FileOwner): Promise<FileEntry<Node>>;
  link?(node: Node, parent: Node, name: string, user?: FileOwner): Promise<FileEntry<Node>>;
  unlink?(parent: Node, name: string, user?: FileOwner): Promise<void>;
  rmdir?(parent: Node, name: string, user?: FileOwner): Promise<void>;
  /** `keep` fails with EEXIST, `exchange` with ENOENT. Without those two, EINVAL. */
  rename?(
    parent: Node,
    name: string,
    newParent: Node,
    newName: string,
    how: RenameHow,
    user?: FileOwner,
  ): Promise<void>;
  /** Extended attributes (xattr(7)), with the namespace in the name. ENODATA for none of this name. */
  getxattr?(node: Node, name: string, user?: FileOwner): Promise<Uint8Array>;
  setxattr?(node: Node, name: string, value: Uint8Array, how: SetXattrHow, user?: FileOwner): Promise<void>;
  listxattr?(node: Node, user?: FileOwner): Promise<readonly string[]>;
  removexattr?(node: Node, name: string, user?: FileOwner): Promise<void>;
  /** @param flags open(2)'s: O_RDONLY, O_WRONLY or O_RDWR, with O_TRUNC, O_APPEND, O_SYNC, O_DSYNC */
  open(node: Node, flags: number, user?: FileOwner): Promise<File>;
  /** Opens it if it is there, unless `flags` has O_EXCL. */
  create?(
    parent: Node,
    name: string,
    flags: number,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<Node> & { readonly file: File }>;
  /** Resolves to the bytes read; less than asked for is the end. */
  read(file: File, buffers: readonly Uint8Array[], offset: number): Promise<number>;
  /** @param append true if it is to be written at the end, wherever that is, and not at `offset` */
  write?(file: File, buffers: readonly Uint8Array[], offset: number, append?: boolean): Promise<number>;
  fsync?(file: File, dataOnly: boolean): Promise<void>;
  /** fallocate(2). */
  allocate?(file: File, mode: number, offset: number, length: number): Promise<void>;
  release(file: File): Promise<void>;
  /** Lists a folder, without `.` and `..`. */
  readdir(node: Node): Promise<readonly DirectoryEntry[]>;
  statfs?(): Promise<FileSystemFacts>;
  /** Description that {@link recall} finds the node again by, JSON-serialisable; undefined if it cannot be found. */
  describe?(node: Node): unknown;
  /** The node of a description, which may be damaged, or somebody's trap. Rejects with ESTALE if it is not there any more. */
  recall?(description: unknown): Promise<Node>;
  close?(): Promise<void>;
}

/** An entry of a folder that is read as a stream, and where to go on after it. */
export interface StreamedEntry<Node> extends DirectoryEntry {
  readonly next: bigint;
  /** File behind the name: with READDIRPLUS, if it is not `.` or `..` and was still there. */
  readonly entry: FileEntry<Node> | undefined;
}

/** A file system with the host's kernel behind it. What only such a one does, the guest of another does without. */
export interface KernelFileSystem<
  Node extends object = object,
  File extends object = object,
  Directory extends object = object,
> extends FileSystem<Node, File> {
  /** Says that setuid and setgid fall at every write, and security.capability with them: the guest need not see to that. */
  readonly killsPrivileges: boolean;
  /** Says that names may have bytes that are not UTF-8, as file-names.ts has them in texts. */
  readonly takesAnyName: boolean;
  /** A pipe, a socket, or the whiteout of an overlay. @param mode with its type */
  mkspecial(
    parent: Node,
    name: string,
    mode: number,
    rdev: number,
    owner: FileOwner,
  ): Promise<FileEntry<Node>>;
  /** A file without a name (O_TMPFILE). */
  tmpfile(
    parent: Node,
    flags: number,
    mode: number,
    owner: FileOwner,
  ): Promise<FileEntry<Node> & { readonly file: File }>;
  /** rename(2) that leaves a whiteout at the old name (RENAME_WHITEOUT). */
  whiteout(
    parent: Node,
    name: string,
    newParent: Node,
    newName: string,
    how: 'replace' | 'keep',
    user: FileOwner,
  ): Promise<void>;
  opendir(node: Node, user: FileOwner): Promise<Directory>;
  /** Entries from `position`, which is 0 or what an entry had as `next`, of about so many bytes; none at the end. */
  list(
    directory: Directory,
    node: Node,
    position: bigint,
    bytes: number,
    plus: boolean,
    user: FileOwner,
  ): Promise<readonly StreamedEntry<Node>[]>;
  syncdir(directory: Directory, dataOnly: boolean): Promise<void>;
  releasedir(directory: Directory): Promise<void>;
  /** lseek(2) with SEEK_DATA or SEEK_HOLE. */
  seek(file: File, offset: number, whence: number): Promise<number>;
  /** copy_file_range(2). Less may be copied than was asked for. */
  copy(file: File, offset: number, newFile: File, newOffset: number, length: number): Promise<number>;
}

/** An error that the guest sees as this errno. */
export function fileError(code: string): Error {
  return Object.assign(new Error(code), { code });
}
