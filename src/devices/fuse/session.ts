/**
 * A FUSE connection: takes requests as the guest's kernel puts them together, and answers them out of a file system.
 *
 * Nothing of a request is trusted: names, lengths, IDs and offsets are checked here, so that file systems need not.
 *
 * @see https://docs.kernel.org/filesystems/fuse.html and include/uapi/linux/fuse.h
 */
import { S_IFMT, S_IFREG } from '../../util/file-mode.js';
import type { Chain, ChainReader, ChainWriter } from '../../virtio/chain.js';
import {
  type AttributeChanges,
  type FileEntry,
  type FileSystem,
  fileError,
  type RenameHow,
  type SetXattrHow,
} from './file-system.js';
import { HandleTable } from './handle-table.js';
import {
  align8,
  attributesOut,
  checkName,
  entryOut,
  errnoOf,
  fileOffset,
  type Header,
  MAX_NAME_BYTES,
  MAX_TARGET_BYTES,
  nameAndValue,
  nameOf,
  opened,
  putHeader,
  room,
  sized,
  texts,
  u32,
  u64,
  u64Exact,
  writeU64,
  xattrName,
} from './messages.js';
import { NodeTable } from './node-table.js';
import * as P from './protocol.js';

const { FUSE } = P;

/** The largest read and write, in pages of 4 KiB: 1 MiB. */
const MAX_PAGES = 256;
export const MAX_TRANSFER_BYTES: number = MAX_PAGES * 4096;
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
]);

/** By the flags of renameat2(2), and of setxattr(2). */
const RENAME_HOW: readonly (RenameHow | undefined)[] = ['replace', 'keep', 'exchange'];
const SET_XATTR_HOW: readonly (SetXattrHow | undefined)[] = ['set', 'create', 'replace'];

export class FuseSession {
  readonly #fileSystem: FileSystem;
  readonly #readOnly: boolean;
  readonly #nodes: NodeTable;
  readonly #handles: HandleTable;
  /** After a restore: what comes first is done when the nodes are found again. */
  #recalled: Promise<void> | undefined;

  constructor(fileSystem: FileSystem, options: { readonly readOnly: boolean }) {
    this.#fileSystem = fileSystem;
    this.#readOnly = options.readOnly;
    this.#nodes = new NodeTable(fileSystem);
    this.#handles = new HandleTable(fileSystem, this.#nodes);
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
    const { opcode, nodeId } = header;
    const node = (id = nodeId): object => this.#nodes.get(id);
    switch (opcode) {
      case FUSE.INIT:
        return await this.#init(reader, writer);
      case FUSE.DESTROY:
        await this.clear();
        return 0;
      case FUSE.LOOKUP:
        return this.#entry(writer, await fs.lookup(node(), nameOf(reader)));
      case FUSE.GETATTR: {
        const flags = u32(reader, 16);
        reader.skip(4);
        const handle = u64(reader);
        const file =
          flags & P.FUSE_GETATTR_FH ? await this.#handles.file(handle).catch(() => undefined) : undefined;
        return attributesOut(writer, await fs.getattr(node(), file));
      }
      case FUSE.SETATTR:
        return await this.#setattr(node(), reader, writer);
      case FUSE.READLINK: {
        const target = new TextEncoder().encode(await have(fs.readlink).call(fs, node()));
        writer.write(target.subarray(0, writer.remaining));
        return Math.min(target.length, writer.written - P.OUT_HEADER_BYTES);
      }
      case FUSE.SYMLINK: {
        const [name, target] = texts(reader, MAX_NAME_BYTES, MAX_TARGET_BYTES - 1);
        return this.#entry(writer, await have(fs.symlink).call(fs, node(), checkName(name), target, header));
      }
      case FUSE.MKNOD: {
        const mode = u32(reader, 16);
        reader.skip(12);
        // A device, a pipe or a socket of the guest's would be one of the host's.
        if ((mode & S_IFMT) !== S_IFREG && (mode & S_IFMT) !== 0) throw fileError('EPERM');
        return this.#entry(
          writer,
          await have(fs.mknod).call(fs, node(), nameOf(reader), mode & 0o7777, header),
        );
      }
      case FUSE.MKDIR: {
        const mode = u32(reader, 8);
        reader.skip(4);
        return this.#entry(
          writer,
          await have(fs.mkdir).call(fs, node(), nameOf(reader), mode & 0o7777, header),
        );
      }
      case FUSE.UNLINK:
        await have(fs.unlink).call(fs, node(), nameOf(reader));
        return 0;
      case FUSE.RMDIR:
        await have(fs.rmdir).call(fs, node(), nameOf(reader));
        return 0;
      case FUSE.RENAME:
      case FUSE.RENAME2: {
        const target = node(u64(reader));
        let how = RENAME_HOW[0];
        if (opcode === FUSE.RENAME2) {
          how = RENAME_HOW[u32(reader, 8)];
          reader.skip(4);
        }
        if (how === undefined) throw fileError('EINVAL');
        const [name, newName] = texts(reader, MAX_NAME_BYTES, MAX_NAME_BYTES);
        await have(fs.rename).call(fs, node(), checkName(name), target, checkName(newName), how);
        return 0;
      }
      case FUSE.GETXATTR: {
        const size = u32(reader, 8);
        reader.skip(4);
        const name = xattrName(texts(reader, MAX_NAME_BYTES)[0]);
        return sized(writer, size, await have(fs.getxattr).call(fs, node(), name));
      }
      case FUSE.LISTXATTR: {
        const size = u32(reader, 8);
        const names = await have(fs.listxattr).call(fs, node());
        return sized(writer, size, new TextEncoder().encode(names.map((name) => `${name}\0`).join('')));
      }
      case FUSE.SETXATTR: {
        const valueBytes = u32(reader, 8);
        const how = SET_XATTR_HOW[reader.readU32()];
        if (how === undefined) throw fileError('EINVAL');
        const [name, value] = nameAndValue(reader, valueBytes);
        await have(fs.setxattr).call(fs, node(), name, value, how);
        return 0;
      }
      case FUSE.REMOVEXATTR:
        await have(fs.removexattr).call(fs, node(), xattrName(texts(reader, MAX_NAME_BYTES)[0]));
        return 0;
      case FUSE.LINK: {
        const linked = node(u64(reader));
        return this.#entry(writer, await have(fs.link).call(fs, linked, node(), nameOf(reader)));
      }
      case FUSE.OPEN: {
        const flags = this.#openFlags(u32(reader, 8));
        this.#handles.checkRoom();
        return opened(writer, this.#handles.add(nodeId, flags, await fs.open(node(), flags)));
      }
      case FUSE.CREATE:
        return await this.#create(header, reader, writer);
      case FUSE.READ:
        return await this.#read(reader, writer);
      case FUSE.WRITE:
        return await this.#write(reader, writer);
      case FUSE.RELEASE:
      case FUSE.RELEASEDIR:
        await this.#handles.release(u64(reader));
        return 0;
      case FUSE.FLUSH:
        // Nothing is kept back here. Linux asks no more then, which is one request less for each file (fuse_flush(), no_flush).
        throw fileError('ENOSYS');
      case FUSE.FSYNC: {
        const file = await this.#handles.file(u64(reader));
        await fs.fsync?.(file, (u32(reader, 8) & P.FUSE_FSYNC_FDATASYNC) !== 0);
        return 0;
      }
      case FUSE.FALLOCATE: {
        const file = await this.#handles.file(u64(reader));
        const [offset, length] = [fileOffset(u64(reader)), fileOffset(u64(reader))];
        await have(fs.allocate).call(fs, file, u32(reader, 8), offset, length);
        return 0;
      }
      case FUSE.OPENDIR:
        node();
        this.#handles.checkRoom();
        return opened(writer, this.#handles.add(nodeId, 0, undefined));
      case FUSE.READDIR:
      case FUSE.READDIRPLUS:
        return await this.#readdir(header, reader, writer);
      case FUSE.FSYNCDIR:
        return 0;
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
    const agreed = major > P.FUSE_KERNEL_VERSION ? 0 : flags & WANTED;
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

  #entry(writer: ChainWriter, entry: FileEntry<object>): number {
    room(writer, P.ENTRY_OUT_BYTES);
    entryOut(writer, this.#nodes.add(entry.node), entry.attributes);
    return P.ENTRY_OUT_BYTES;
  }

  async #setattr(node: object, reader: ChainReader, writer: ChainWriter): Promise<number> {
    const valid = u32(reader, 88);
    reader.skip(4);
    const handle = u64(reader);
    const sizeBytes = u64(reader);
    reader.skip(8);
    const seconds = [u64Exact(reader), u64Exact(reader)] as const;
    reader.skip(8);
    const nanoseconds = [reader.readU32(), reader.readU32()] as const;
    reader.skip(4);
    const mode = reader.readU32();
    reader.skip(4);
    const uid = reader.readU32();
    const gid = reader.readU32();
    const time = (index: 0 | 1): bigint =>
      BigInt.asIntN(64, seconds[index]) * 1_000_000_000n + BigInt(nanoseconds[index]);
    const changes: AttributeChanges = {
      ...(valid & P.FATTR_MODE ? { mode: mode & 0o7777 } : {}),
      ...(valid & P.FATTR_UID ? { uid } : {}),
      ...(valid & P.FATTR_GID ? { gid } : {}),
      ...(valid & P.FATTR_SIZE ? { sizeBytes: fileOffset(sizeBytes) } : {}),
      ...(valid & P.FATTR_ATIME ? { atimeNs: valid & P.FATTR_ATIME_NOW ? 'now' : time(0) } : {}),
      ...(valid & P.FATTR_MTIME ? { mtimeNs: valid & P.FATTR_MTIME_NOW ? 'now' : time(1) } : {}),
    };
    const file = valid & P.FATTR_FH ? await this.#handles.file(handle) : undefined;
    const fs = this.#fileSystem;
    return attributesOut(writer, await have(fs.setattr).call(fs, node, changes, file));
  }

  /** Those that a file system hears of. A guest may not write where it may only read. */
  #openFlags(flags: number): number {
    const kept = P.O_ACCMODE | P.O_TRUNC | P.O_APPEND | P.O_EXCL | P.O_SYNC | P.O_DSYNC;
    const changes = (flags & (P.O_ACCMODE | P.O_TRUNC)) !== 0;
    if (this.#readOnly && changes) throw fileError('EROFS');
    return flags & kept;
  }

  async #create(header: Header, reader: ChainReader, writer: ChainWriter): Promise<number> {
    const fs = this.#fileSystem;
    const flags = this.#openFlags(u32(reader, 16));
    const mode = reader.readU32() & 0o7777;
    reader.skip(8);
    const name = nameOf(reader);
    room(writer, P.ENTRY_OUT_BYTES + 16);
    this.#handles.checkRoom();
    const made = await have(fs.create).call(fs, this.#nodes.get(header.nodeId), name, flags, mode, header);
    const id = this.#nodes.add(made.node);
    entryOut(writer, id, made.attributes);
    return P.ENTRY_OUT_BYTES + opened(writer, this.#handles.add(id, flags, made.file));
  }

  async #read(reader: ChainReader, writer: ChainWriter): Promise<number> {
    room(reader, 40);
    const file = await this.#handles.file(u64(reader));
    const offset = fileOffset(u64(reader));
    const size = Math.min(reader.readU32(), writer.remaining, MAX_TRANSFER_BYTES);
    return size === 0 ? 0 : await this.#fileSystem.read(file, writer.take(size), offset);
  }

  async #write(reader: ChainReader, writer: ChainWriter): Promise<number> {
    room(reader, 40);
    room(writer, 8);
    const fs = this.#fileSystem;
    const file = await this.#handles.file(u64(reader));
    const offset = fileOffset(u64(reader));
    const size = reader.readU32();
    reader.skip(20);
    if (size > reader.remaining || size > MAX_TRANSFER_BYTES) throw fileError('EINVAL');
    const written = size === 0 ? 0 : await have(fs.write).call(fs, file, reader.take(size), offset);
    writer.writeU32(written);
    writer.writeU32(0);
    return 8;
  }

  async #readdir({ opcode, nodeId }: Header, reader: ChainReader, writer: ChainWriter): Promise<number> {
    room(reader, 40);
    const handle = u64(reader);
    const offset = u64(reader);
    const size = Math.min(reader.readU32(), writer.remaining, MAX_TRANSFER_BYTES);
    const entries = await this.#handles.entries(handle, offset === 0);
    const plus = opcode === FUSE.READDIRPLUS;
    const folder = this.#nodes.get(nodeId);
    let done = 0;
    for (let at = offset; at < entries.length; at++) {
      const entry = entries[at];
      if (entry === undefined) break;
      const name = new TextEncoder().encode(entry.name);
      const bytes = align8((plus ? P.ENTRY_OUT_BYTES : 0) + P.DIRENT_BYTES + name.length);
      if (done + bytes > size) break;
      if (plus) {
        try {
          const { node, attributes } = await this.#fileSystem.lookup(folder, entry.name);
          entryOut(writer, this.#nodes.add(node), attributes);
        } catch {
          // What has gone meanwhile, or is one too many to know, the guest looks up by itself.
          writer.fill(P.ENTRY_OUT_BYTES, 0);
        }
      }
      writeU64(writer, entry.ino);
      writer.writeU64(at + 1);
      writer.writeU32(name.length);
      writer.writeU32(entry.type >>> 12);
      writer.write(name);
      writer.fill(align8(name.length) - name.length, 0);
      done += bytes;
    }
    return done;
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

  /** The guest knows nothing any more, and has nothing open. */
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

/** A method that a file system may lack. */
function have<Method>(method: Method | undefined): Method {
  if (method === undefined) throw fileError('ENOSYS');
  return method;
}
