/** Listing a folder of a share as a stream: the kernel's own positions, as many entries at a time as are asked for, none kept. */

import { decodeName } from '../../devices/backends/file-names.js';
import type { FileOwner, StreamedEntry } from '../../devices/backends/file-system.js';
import { type Descriptor, type FolderIo, manyFacts } from './folder-io.js';
import type { FolderNode } from './folder-node.js';
import type { FolderNodes } from './folder-nodes.js';

export interface FolderDirectory {
  readonly descriptor: Descriptor;
  /** Settles when the listing before has ended: seeking and reading are two system calls. */
  turn: Promise<unknown>;
}

export interface ListRequest {
  readonly directory: FolderDirectory;
  readonly node: FolderNode;
  readonly position: bigint;
  readonly bytes: number;
  readonly plus: boolean;
  readonly user: FileOwner;
}

/** struct linux_dirent64: ino, position of the next, length, type, name. */
const DIRENT = { NEXT: 8, LENGTH: 16, TYPE: 18, NAME: 19 } as const;
/** Bytes of one entry with the longest name. */
const MIN_LIST_BYTES = 280;
/** Bytes of the shortest entry. */
const MIN_ENTRY_BYTES = 24;
/** Most bytes that are listed at a time, whatever was asked for. */
const MAX_LIST_BYTES = 32_768;

export function listFolder(
  io: FolderIo,
  nodes: FolderNodes,
  request: ListRequest,
): Promise<StreamedEntry<FolderNode>[]> {
  const { directory } = request;
  const listed = directory.turn.then(() => list(io, nodes, request));
  directory.turn = listed.catch(() => {});
  return listed;
}

function list(
  io: FolderIo,
  nodes: FolderNodes,
  { directory, node, position, bytes, plus, user }: ListRequest,
): Promise<StreamedEntry<FolderNode>[]> {
  const buffer = Buffer.alloc(Math.min(Math.max(bytes, MIN_LIST_BYTES), MAX_LIST_BYTES));
  const facts = manyFacts(plus ? Math.ceil(buffer.length / MIN_ENTRY_BYTES) : 0);
  return nodes.use(node, user, () =>
    directory.descriptor.use(async (fd) => {
      const length = await io.call('list', user, fd, position, buffer, facts.words);
      const entries: StreamedEntry<FolderNode>[] = [];
      for (let at = 0; at < length; at += buffer.readUInt16LE(at + DIRENT.LENGTH)) {
        const name = decodeName(buffer.subarray(at + DIRENT.NAME, buffer.indexOf(0, at + DIRENT.NAME)));
        const found = plus ? facts.at(entries.length) : undefined;
        entries.push({
          name,
          // That of the share's own `..` is none of the guest's business.
          ino: name === '..' && node === nodes.root ? node.ino : buffer.readBigUInt64LE(at),
          type: (buffer[at + DIRENT.TYPE] as number) << 12,
          next: buffer.readBigInt64LE(at + DIRENT.NEXT),
          entry: found?.isThere ? nodes.enterIfRoom(found, node, name) : undefined,
        });
      }
      return entries;
    }),
  );
}
