/**
 * A FUSE connection: takes requests as the guest's kernel puts them together, and answers them out of a file system.
 *
 * Nothing of a request is trusted: names, lengths, IDs and offsets are checked here, so that file systems need not.
 *
 * @see https://docs.kernel.org/filesystems/fuse.html and include/uapi/linux/fuse.h
 *
 * @spec fuse-7.38 "enum fuse_opcode"  Requests  #partial  those of a virtiofs; the rest gets ENOSYS
 */
import { S_IFMT, S_IFREG } from '../../util/file-mode.js';
import type { Chain, ChainReader, ChainWriter } from '../../virtio/chain.js';
import { encodeName } from '../backends/file-names.js';
import {
  type FileEntry,
  type FileSystem,
  fileError,
  type KernelFileSystem,
  type RenameHow,
  type SetXattrHow,
} from '../backends/file-system.js';
import { copyFileRange, fallocate, fsync, lseek, read, type Served, write } from './file-requests.js';
import { HandleTable, OPEN_FLAGS } from './handle-table.js';
import { readdir } from './listing.js';
import {
  attributesOut,
  entryOut,
  errnoOf,
  type Header,
  have,
  MAX_NAME_BYTES,
  MAX_TRANSFER_BYTES,
  opened,
  putHeader,
  room,
  setattrIn,
  sized,
  u32,
  u64,
} from './messages.js';
import { NodeTable } from './node-table.js';
import * as P from './protocol.js';
import { RequestNames } from './request-names.js';

const { FUSE } = P;

const MAX_PAGES = MAX_TRANSFER_BYTES / 4096;
const MAX_BACKGROUND = 32;
/** Nodes in one BATCH_FORGET, each of which is work at once. Linux sends none at all over virtio-fs; what is beyond this is ignored. */
const MAX_FORGETS = 4096;

const WANTED =
  P.FUSE_ASYNC_READ |
  P.FUSE_ATOMIC_O_TRUNC |
  P.FUSE_BIG_WRITES |
  P.FUSE_AUTO_INVAL_DATA |
  P.FUSE_DO_READDIRPLUS |
  P.FUSE_READDIRPLUS_AUTO |
  P.FUSE_ASYNC_DIO |
  P.FUSE_PARALLEL_DIROPS |
  P.FUSE_MAX_PAGES;
/** Flags for a file system that sees to it itself: by the first, old kernels leave it to us; by the second, new ones. */
const KILLS_PRIVILEGES = P.FUSE_HANDLE_KILLPRIV | P.FUSE_HANDLE_KILLPRIV_V2;

const CHANGING: ReadonlySet<number> = new Set([
  FUSE.SETATTR,
  FUSE.SYMLINK,
  FUSE.MKNOD,
  FUSE.MKDIR,
  FUSE.UNLINK,
  FUSE.RMDIR,
  FUSE.RENAME,
  FUSE.RENAME2,
  FUSE.SETXATTR,
  FUSE.REMOVEXATTR,
  FUSE.LINK,
  FUSE.WRITE,
  FUSE.CREATE,
  FUSE.FALLOCATE,
  FUSE.COPY_FILE_RANGE,
  FUSE.TMPFILE,
]);

/** Words for the flags of renameat2(2), and of setxattr(2). */
const RENAME_HOW: readonly (RenameHow | undefined)[] = ['replace', 'keep', 'exchange'];
const SET_XATTR_HOW: readonly (SetXattrHow | undefined)[] = ['set', 'create', 'replace'];

export class FuseSession {
  readonly #fileSystem: FileSystem & Partial<KernelFileSystem>;
  readonly #readOnly: boolean;
  readonly #nodes: NodeTable;
  readonly #handles: HandleTable;
  readonly #served: Served;
  readonly #names: RequestNames;
  /** After a restore: what comes first is done when the nodes are found again. */
  #recalled: Promise<void> | undefined;

  constructor(fileSystem: FileSystem & Partial<KernelFileSystem>, options: { readonly readOnly: boolean }) {
    this.#fileSystem = fileSystem;
    this.#readOnly = options.readOnly;
    this.#nodes = new NodeTable(fileSystem);
    this.#handles = new HandleTable(fileSystem, this.#nodes, options);
    this.#names = new RequestNames(fileSystem.takesAnyName === true);
    this.#served = { fileSystem, nodes: this.#nodes, handles: this.#handles };
  }

  /** Resolves to the bytes that were written for the guest: 0 where no answer is expected, or there is no room for one. */
  async handle({ reader, writer }: Chain): Promise<number> {
    if (reader.length < P.IN_HEADER_BYTES) return 0;
    reader.skip(4);
    const opcode = reader.readU32();
    const uniqueLow = reader.readU32();
    const uniqueHigh = reader.readU32();
    const nodeId = u64(reader);
    const uid = reader.readU32();
    const gid = reader.readU32();
    reader.skip(8);
    const header: Header = { opcode, uniqueLow, uniqueHigh, nodeId, uid, gid };
    if (opcode === FUSE.FORGET || opcode === FUSE.BATCH_FORGET || opcode === FUSE.INTERRUPT) {
      await this.#recalled;
      this.#forget(header, reader);
      return 0;
    }
    if (writer.length < P.OUT_HEADER_BYTES) return 0;
    // The length is known last.
    const start = writer.take(P.OUT_HEADER_BYTES);
    let error = 0;
    let length = 0;
    try {
      if (this.#recalled !== undefined) await this.#recalled;
      if (this.#readOnly && CHANGING.has(opcode)) throw fileError('EROFS');
      length = await this.#answer(header, reader, writer);
    } catch (failure) {
      error = -errnoOf(failure);
    }
    putHeader(start, P.OUT_HEADER_BYTES + length, error, header);
    return P.OUT_HEADER_BYTES + length;
  }

  /** Resolves to the bytes of the answer, without its header. */
  async #answer(header: Header, reader: ChainReader, writer: ChainWriter): Promise<number> {
    const fs = this.#fileSystem;
    const names = this.#names;
    const { opcode, nodeId } = header;
    const node = (id = nodeId): object => this.#nodes.get(id);
    switch (opcode) {
      case FUSE.INIT:
        return await this.#init(reader, writer);
      case FUSE.DESTROY:
        await this.clear();
        return 0;
      case FUSE.LOOKUP:
        return this.#entry(writer, await fs.lookup(node(), names.one(reader), header));
      case FUSE.GETATTR: {
        const flags = u32(reader, 16);
        reader.skip(4);
        const handle = u64(reader);
        const file =
          flags & P.FUSE_GETATTR_FH ? await this.#handles.file(handle).catch(() => undefined) : undefined;
        return attributesOut(writer, await fs.getattr(node(), file, header));
      }
      case FUSE.SETATTR:
        return await this.#setattr(header, reader, writer);
      case FUSE.READLINK: {
        const target = encodeName(await have(fs.readlink).call(fs, node(), header));
        writer.write(target.subarray(0, writer.remaining));
        return Math.min(target.length, writer.written - P.OUT_HEADER_BYTES);
      }
      case FUSE.SYMLINK: {
        const [name, target] = names.nameAndTarget(reader);
        return this.#entry(writer, await have(fs.symlink).call(fs, node(), name, target, header));
      }
      case FUSE.MKNOD: {
        const mode = u32(reader, 16);
        const rdev = reader.readU32();
        reader.skip(8);
        const name = names.one(reader);
        if ((mode & S_IFMT) === S_IFREG || (mode & S_IFMT) === 0)
          return this.#entry(writer, await have(fs.mknod).call(fs, node(), name, mode & 0o7777, header));
        // A device, a pipe or a socket: only with the host's kernel behind it, which is asked for no device.
        if (fs.mkspecial === undefined) throw fileError('EPERM');
        return this.#entry(writer, await fs.mkspecial(node(), name, mode, rdev, header));
      }
      case FUSE.MKDIR: {
        const mode = u32(reader, 8);
        reader.skip(4);
        return this.#entry(
          writer,
          await have(fs.mkdir).call(fs, node(), names.one(reader), mode & 0o7777, header),
        );
      }
      case FUSE.UNLINK:
        await have(fs.unlink).call(fs, node(), names.one(reader), header);
        return 0;
      case FUSE.RMDIR:
        await have(fs.rmdir).call(fs, node(), names.one(reader), header);
        return 0;
      case FUSE.RENAME:
      case FUSE.RENAME2:
        return await this.#rename(header, reader);
      case FUSE.GETXATTR: {
        const size = u32(reader, 8);
        reader.skip(4);
        const name = names.xattr(reader);
        return sized(writer, size, await have(fs.getxattr).call(fs, node(), name, header));
      }
      case FUSE.LISTXATTR: {
        const size = u32(reader, 8);
        const all = await have(fs.listxattr).call(fs, node(), header);
        return sized(writer, size, encodeName(all.map((name) => `${name}\0`).join('')));
      }
      case FUSE.SETXATTR: {
        const valueBytes = u32(reader, 8);
        const how = SET_XATTR_HOW[reader.readU32()];
        if (how === undefined) throw fileError('EINVAL');
        const [name, value] = names.xattrAndValue(reader, valueBytes);
        await have(fs.setxattr).call(fs, node(), name, value, how, header);
        return 0;
      }
      case FUSE.REMOVEXATTR:
        await have(fs.removexattr).call(fs, node(), names.xattr(reader), header);
        return 0;
      case FUSE.LINK: {
        const linked = node(u64(reader));
        return this.#entry(writer, await have(fs.link).call(fs, linked, node(), names.one(reader), header));
      }
      case FUSE.OPEN: {
        const flags = this.#openFlags(u32(reader, 8));
        this.#checkOpens(writer);
        const file = await fs.open(node(), flags, header);
        return opened(writer, this.#handles.add(nodeId, flags, { file, directory: undefined }));
      }
      case FUSE.CREATE:
      case FUSE.TMPFILE:
        return await this.#create(header, reader, writer);
      case FUSE.READ:
        return await read(this.#served, reader, writer);
      case FUSE.WRITE:
        return await write(this.#served, reader, writer);
      case FUSE.RELEASE:
      case FUSE.RELEASEDIR:
        await this.#handles.release(u64(reader));
        return 0;
      case FUSE.FLUSH:
        // Nothing is kept back here. Linux asks no more then, which is one request less for each file (fuse_flush(), no_flush).
        throw fileError('ENOSYS');
      case FUSE.FSYNC:
      case FUSE.FSYNCDIR:
        return await fsync(this.#served, header, reader);
      case FUSE.FALLOCATE:
        return await fallocate(this.#served, reader);
      case FUSE.LSEEK:
        return await lseek(this.#served, reader, writer);
      case FUSE.COPY_FILE_RANGE:
        return await copyFileRange(this.#served, reader, writer);
      case FUSE.OPENDIR: {
        this.#checkOpens(writer);
        const directory = await fs.opendir?.(node(), header);
        return opened(writer, this.#handles.add(nodeId, 0, { file: undefined, directory }));
      }
      case FUSE.READDIR:
      case FUSE.READDIRPLUS:
        return await readdir(this.#served, header, reader, writer);
      case FUSE.STATFS:
        return await this.#statfs(writer);
      default:
        throw fileError('ENOSYS');
    }
  }

  async #init(reader: ChainReader, writer: ChainWriter): Promise<number> {
    const major = u32(reader, 16);
    const minor = reader.readU32();
    const readahead = reader.readU32();
    const flags = reader.readU32();
    if (
      major < P.FUSE_KERNEL_VERSION ||
      (major === P.FUSE_KERNEL_VERSION && minor < P.FUSE_OLDEST_MINOR_VERSION)
    )
      throw fileError('EPROTO');
    await this.clear();
    room(writer, 64);
    writer.writeU32(P.FUSE_KERNEL_VERSION);
    writer.writeU32(P.FUSE_KERNEL_MINOR_VERSION);
    // One with a newer major version asks again, by ours.
    const wanted = this.#fileSystem.killsPrivileges ? WANTED | KILLS_PRIVILEGES : WANTED;
    const agreed = major > P.FUSE_KERNEL_VERSION ? 0 : flags & wanted;
    writer.writeU32(readahead);
    writer.writeU32(agreed >>> 0);
    writer.writeU16(MAX_BACKGROUND);
    writer.writeU16((MAX_BACKGROUND * 3) / 4);
    writer.writeU32(MAX_TRANSFER_BYTES);
    writer.writeU32(1); // nanoseconds
    writer.writeU16(MAX_PAGES);
    writer.fill(34, 0);
    return 64;
  }

  /** FORGET, BATCH_FORGET, and INTERRUPT, which comes too late for whatever does not wait. */
  #forget({ opcode, nodeId }: Header, reader: ChainReader): void {
    if (opcode === FUSE.FORGET && reader.remaining >= 8) this.#nodes.forget(nodeId, u64(reader));
    if (opcode !== FUSE.BATCH_FORGET || reader.remaining < 8) return;
    const count = Math.min(reader.readU32(), MAX_FORGETS);
    reader.skip(4);
    for (let i = 0; i < count && reader.remaining >= 16; i++) this.#nodes.forget(u64(reader), u64(reader));
  }

  /** Tells the guest of an entry, or gives it back: what is not told of is never forgotten. */
  #entry(writer: ChainWriter, { node, attributes }: FileEntry<object>): number {
    if (writer.remaining < P.ENTRY_OUT_BYTES) {
      this.#nodes.drop(node);
      throw fileError('EINVAL');
    }
    entryOut(writer, this.#nodes.add(node), attributes);
    return P.ENTRY_OUT_BYTES;
  }

  async #setattr(header: Header, reader: ChainReader, writer: ChainWriter): Promise<number> {
    const { handle, changes } = setattrIn(reader);
    const file = handle === undefined ? undefined : await this.#handles.file(handle);
    const fs = this.#fileSystem;
    const node = this.#nodes.get(header.nodeId);
    return attributesOut(writer, await have(fs.setattr).call(fs, node, changes, file, header));
  }

  async #rename(header: Header, reader: ChainReader): Promise<number> {
    const fs = this.#fileSystem;
    const target = this.#nodes.get(u64(reader));
    let flags = 0;
    if (header.opcode === FUSE.RENAME2) {
      flags = u32(reader, 8);
      reader.skip(4);
    }
    const how = RENAME_HOW[flags & ~P.RENAME_WHITEOUT];
    if (how === undefined) throw fileError('EINVAL');
    const [from, to] = this.#names.two(reader);
    const node = this.#nodes.get(header.nodeId);
    if ((flags & P.RENAME_WHITEOUT) === 0) {
      await have(fs.rename).call(fs, node, from, target, to, how, header);
    } else {
      if (fs.whiteout === undefined || how === 'exchange') throw fileError('EINVAL');
      await fs.whiteout(node, from, target, to, how, header);
    }
    return 0;
  }

  /** Checks that what is opened has a place, and that its number fits in the answer: else nobody could close it. */
  #checkOpens(writer: ChainWriter, entryBytes = 0): void {
    room(writer, entryBytes + P.OPEN_OUT_BYTES);
    this.#handles.checkRoom();
  }

  /** Flags that a file system hears of. A guest may not write where it may only read. */
  #openFlags(flags: number): number {
    const changes = (flags & (P.O_ACCMODE | P.O_TRUNC)) !== 0;
    if (this.#readOnly && changes) throw fileError('EROFS');
    return flags & OPEN_FLAGS;
  }

  /** CREATE, and TMPFILE, whose name says nothing. */
  async #create(header: Header, reader: ChainReader, writer: ChainWriter): Promise<number> {
    const fs = this.#fileSystem;
    const flags = this.#openFlags(u32(reader, 16));
    const mode = reader.readU32() & 0o7777;
    reader.skip(8);
    this.#checkOpens(writer, P.ENTRY_OUT_BYTES);
    const parent = this.#nodes.get(header.nodeId);
    const made =
      header.opcode === FUSE.TMPFILE
        ? await have(fs.tmpfile).call(fs, parent, flags, mode, header)
        : await have(fs.create).call(fs, parent, this.#names.one(reader), flags, mode, header);
    let id: number;
    try {
      id = this.#nodes.add(made.node);
    } catch (error) {
      await fs.release(made.file);
      throw error;
    }
    entryOut(writer, id, made.attributes);
    const handle = this.#handles.add(id, flags, { file: made.file, directory: undefined });
    return P.ENTRY_OUT_BYTES + opened(writer, handle);
  }

  async #statfs(writer: ChainWriter): Promise<number> {
    room(writer, 80);
    const facts = await have(this.#fileSystem.statfs).call(this.#fileSystem);
    writer.writeU64(facts.blocks);
    writer.writeU64(facts.freeBlocks);
    writer.writeU64(facts.availableBlocks);
    writer.writeU64(facts.files);
    writer.writeU64(facts.freeFiles);
    writer.writeU32(facts.blockBytes);
    writer.writeU32(MAX_NAME_BYTES);
    writer.writeU32(facts.blockBytes);
    writer.fill(28, 0);
    return 80;
  }

  get isEmpty(): boolean {
    return this.#recalled === undefined && this.#nodes.isEmpty && this.#handles.isEmpty;
  }

  /** Stops looking for what a restored guest knew: it has been reset. Requests that waited for it go on, and find nothing. */
  stopRecalling(): void {
    if (this.#recalled !== undefined) this.#nodes.clear();
  }

  /** Forgets what the guest knows, and closes what it has open. */
  async clear(): Promise<void> {
    await this.#recalled;
    await this.#handles.clear();
    this.#nodes.clear();
  }

  save(): Record<string, unknown> {
    return { ...this.#nodes.save(), ...this.#handles.save() };
  }

  restore(state: Readonly<Record<string, unknown>>): void {
    this.#nodes.restore(state);
    this.#handles.restore(state);
    this.#recalled = this.#nodes.recall().then(() => {
      this.#recalled = undefined;
    });
  }
}
