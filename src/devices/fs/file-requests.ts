/** FUSE requests on files that are open: data goes between them and guest memory, with no copy here. */
import type { ChainReader, ChainWriter } from '../../virtio/chain.js';
import { type FileSystem, fileError, type KernelFileSystem } from '../backends/file-system.js';
import type { HandleTable } from './handle-table.js';
import { fileOffset, type Header, have, MAX_TRANSFER_BYTES, room, u32, u64 } from './messages.js';
import type { NodeTable } from './node-table.js';
import * as P from './protocol.js';

/** A file system, and what of it the guest knows and has open. */
export interface Served {
  readonly fileSystem: FileSystem & Partial<KernelFileSystem>;
  readonly nodes: NodeTable;
  readonly handles: HandleTable;
}

export async function read(
  { fileSystem, handles }: Served,
  reader: ChainReader,
  writer: ChainWriter,
): Promise<number> {
  room(reader, 40);
  const file = await handles.file(u64(reader));
  const offset = fileOffset(u64(reader));
  const size = Math.min(reader.readU32(), writer.remaining, MAX_TRANSFER_BYTES);
  return size === 0 ? 0 : await fileSystem.read(file, writer.take(size), offset);
}

export async function write(
  { fileSystem, handles }: Served,
  reader: ChainReader,
  writer: ChainWriter,
): Promise<number> {
  room(reader, 40);
  room(writer, 8);
  const file = await handles.file(u64(reader));
  const offset = fileOffset(u64(reader));
  const size = reader.readU32();
  const cached = (reader.readU32() & P.FUSE_WRITE_CACHE) !== 0;
  reader.skip(8);
  // A page that was mapped is written back where it was read, though its file was opened to append.
  const append = (reader.readU32() & P.O_APPEND) !== 0 && !cached;
  reader.skip(4);
  if (size > reader.remaining || size > MAX_TRANSFER_BYTES) throw fileError('EINVAL');
  const buffers = reader.take(size);
  const written =
    size === 0 ? 0 : await have(fileSystem.write).call(fileSystem, file, buffers, offset, append);
  writer.writeU32(written);
  writer.writeU32(0);
  return 8;
}

/** FSYNC and FSYNCDIR. */
export async function fsync(
  { fileSystem, handles }: Served,
  header: Header,
  reader: ChainReader,
): Promise<number> {
  const handle = u64(reader);
  const dataOnly = (u32(reader, 8) & P.FUSE_FSYNC_FDATASYNC) !== 0;
  if (header.opcode === P.FUSE.FSYNC) {
    await fileSystem.fsync?.(await handles.file(handle), dataOnly);
  } else if (fileSystem.syncdir !== undefined) {
    await fileSystem.syncdir((await handles.directory(handle, header)).directory, dataOnly);
  }
  return 0;
}

export async function fallocate({ fileSystem, handles }: Served, reader: ChainReader): Promise<number> {
  const file = await handles.file(u64(reader));
  const [offset, length] = [fileOffset(u64(reader)), fileOffset(u64(reader))];
  await have(fileSystem.allocate).call(fileSystem, file, u32(reader, 8), offset, length);
  return 0;
}

/** SEEK_DATA and SEEK_HOLE: everything else is the guest's kernel's. */
export async function lseek(
  { fileSystem, handles }: Served,
  reader: ChainReader,
  writer: ChainWriter,
): Promise<number> {
  room(writer, 8);
  const file = await handles.file(u64(reader));
  const offset = fileOffset(u64(reader));
  const whence = u32(reader, 8);
  if (whence !== P.SEEK_DATA && whence !== P.SEEK_HOLE) throw fileError('EINVAL');
  writer.writeU64(await have(fileSystem.seek).call(fileSystem, file, offset, whence));
  return 8;
}

export async function copyFileRange(
  { fileSystem, handles }: Served,
  reader: ChainReader,
  writer: ChainWriter,
): Promise<number> {
  room(reader, 56);
  room(writer, 8);
  const copy = have(fileSystem.copy);
  const file = await handles.file(u64(reader));
  const offset = fileOffset(u64(reader));
  reader.skip(8);
  const newFile = await handles.file(u64(reader));
  const [newOffset, length] = [fileOffset(u64(reader)), u64(reader)];
  writer.writeU32(await copy.call(fileSystem, file, offset, newFile, newOffset, length));
  writer.writeU32(0);
  return 8;
}
