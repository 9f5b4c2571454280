/**
 * READDIR and READDIRPLUS: as a stream where the file system has one, else out of a listing that was made when it began.
 *
 * @spec fuse-7.38 "struct fuse_direntplus"  READDIR and READDIRPLUS  #yes
 */
import type { ChainReader, ChainWriter } from '../../virtio/chain.js';
import { encodeName } from '../backends/file-names.js';
import { type FileEntry, fileError } from '../backends/file-system.js';
import type { Served } from './file-requests.js';
import {
  align8,
  entryOut,
  type Header,
  MAX_TRANSFER_BYTES,
  room,
  u64,
  u64Exact,
  writeU64,
} from './messages.js';
import type { NodeTable } from './node-table.js';
import * as P from './protocol.js';

/**
 * Share of an answer's room that is listed by getdents64(2): its shortest entries of 24 bytes become 32, and 160 with READDIRPLUS. No
 * entry is read that does not fit, so a listing goes on from where the descriptor stands: where a file system has no lasting positions
 * (tmpfs before Linux 6.6), going back finds others when names come and go.
 */
const LISTED_SHARE = { plain: 24 / 32, plus: 24 / 160 } as const;

interface Listed {
  readonly name: Uint8Array;
  readonly ino: bigint;
  readonly type: number;
  readonly next: bigint;
}

export async function readdir(
  served: Served,
  header: Header,
  reader: ChainReader,
  writer: ChainWriter,
): Promise<number> {
  room(reader, 40);
  const handle = u64(reader);
  const offset = u64Exact(reader);
  const size = Math.min(reader.readU32(), writer.remaining, MAX_TRANSFER_BYTES);
  const plus = header.opcode === P.FUSE.READDIRPLUS;
  const list = served.fileSystem.opendir === undefined ? listKept : listStreamed;
  return await list(served, header, { handle, offset, size, plus }, writer);
}

interface Request {
  readonly handle: number;
  readonly offset: bigint;
  readonly size: number;
  readonly plus: boolean;
}

async function listStreamed(
  { fileSystem, handles, nodes }: Served,
  header: Header,
  { handle, offset, size, plus }: Request,
  writer: ChainWriter,
): Promise<number> {
  const { directory, node } = await handles.directory(handle, header);
  const bytes = Math.floor(size * (plus ? LISTED_SHARE.plus : LISTED_SHARE.plain));
  const position = BigInt.asIntN(64, offset);
  const listed = (await fileSystem.list?.(directory, node, position, bytes, plus, header)) ?? [];
  let done = 0;
  let isFull = false;
  for (const entry of listed) {
    const name = encodeName(entry.name);
    isFull ||= entryBytes(name, plus) > size - done;
    if (!isFull) done += putEntry(writer, nodes, { ...entry, name }, plus, entry.entry);
    else if (entry.entry !== undefined) nodes.drop(entry.entry.node);
  }
  // Nothing would mean that there is nothing more.
  if (done === 0 && listed.length > 0) throw fileError('EINVAL');
  return done;
}

async function listKept(
  { fileSystem, handles, nodes }: Served,
  header: Header,
  { handle, offset, size, plus }: Request,
  writer: ChainWriter,
): Promise<number> {
  const entries = await handles.entries(handle, offset === 0n);
  const folder = nodes.get(header.nodeId);
  let done = 0;
  for (let at = Number(offset); at < entries.length; at++) {
    const entry = entries[at];
    if (entry === undefined) break;
    const name = encodeName(entry.name);
    if (entryBytes(name, plus) > size - done) break;
    // What has gone meanwhile, or is one too many to know, the guest looks up by itself.
    const found = plus
      ? await fileSystem.lookup(folder, entry.name, header).catch(() => undefined)
      : undefined;
    done += putEntry(writer, nodes, { ...entry, name, next: BigInt(at + 1) }, plus, found);
  }
  return done;
}

const entryBytes = (name: Uint8Array, plus: boolean): number =>
  align8((plus ? P.ENTRY_OUT_BYTES : 0) + P.DIRENT_BYTES + name.length);

/** Writes struct fuse_dirent or fuse_direntplus, for which there is room. Returns its bytes. */
function putEntry(
  writer: ChainWriter,
  nodes: NodeTable,
  { name, ino, type, next }: Listed,
  plus: boolean,
  found: FileEntry<object> | undefined,
): number {
  if (plus) putFound(writer, nodes, found);
  writeU64(writer, ino);
  writeU64(writer, BigInt.asUintN(64, next));
  writer.writeU32(name.length);
  writer.writeU32(type >>> 12);
  writer.write(name);
  writer.fill(align8(name.length) - name.length, 0);
  return entryBytes(name, plus);
}

function putFound(writer: ChainWriter, nodes: NodeTable, found: FileEntry<object> | undefined): void {
  let id = 0;
  try {
    if (found !== undefined) id = nodes.add(found.node);
  } catch {
    // one too many to know
  }
  if (id === 0 || found === undefined) writer.fill(P.ENTRY_OUT_BYTES, 0);
  else entryOut(writer, id, found.attributes);
}
