/** Reader of EROFS images, as far as tsvm writes them: what a kernel would show of one. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const BLOCK = 4096;
const KINDS: Readonly<Record<number, string>> = { 1: 'fifo', 4: 'directory', 8: 'file', 10: 'link' };
const LAYOUTS: Readonly<Record<number, string>> = { 0: 'blocks', 2: 'inline', 4: 'chunks' };
const PREFIXES: Readonly<Record<number, string>> = { 1: 'user.', 4: 'trusted.', 6: 'security.' };
/** Address of a chunk that is a hole. */
const HOLE = 0xffff_ffff;
const MAX_WHOLE_BYTES = 2 ** 20;
/** Longest content that is kept as it is. */
const SHOWN_BYTES = 5000;

export interface Shown {
  readonly kind: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNs: number;
  readonly links: number;
  readonly sizeBytes: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** Target of a link, or content of a file, as latin1 text; its digest if it is long. */
  readonly content?: string;
}

export interface ErofsEntry extends Shown {
  /** Number of the inode. */
  readonly inode: number;
  /** Layout of the data, and the first block of them. */
  readonly layout: string;
  readonly place: number;
}

export interface Erofs {
  /** By path; the root's is ''. */
  readonly entries: ReadonlyMap<string, ErofsEntry>;
  readonly blocks: number;
  readonly uuid: string;
}

/** Reads an image. @throws Error if a kernel would find something wrong with it. */
export function readErofs(path: string): Erofs {
  const fd = openSync(path, 'r');
  try {
    const read = (offset: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      readSync(fd, bytes, 0, length, offset);
      return bytes;
    };
    const superblock = read(1024, 128);
    if (superblock.readUInt32LE(0) !== 0xe0f5e1e2) throw new Error('no superblock');
    const blocks = superblock.readUInt32LE(36);
    if (fstatSync(fd).size !== blocks * BLOCK) throw new Error('another size than the superblock says');
    const entries = new Map<string, ErofsEntry>();
    const known = new Map<number, ReturnType<typeof readInode>>();
    const waiting: [string, number][] = [['', superblock.readUInt16LE(14)]];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [at, inode] = next;
      const { entry, data } = known.get(inode) ?? readInode(read, inode);
      known.set(inode, { entry, data });
      entries.set(at, entry);
      if (entry.kind !== 'directory') continue;
      for (const { name, child } of namesIn(data)) {
        if (name !== '.' && name !== '..') waiting.push([at === '' ? name : `${at}/${name}`, child]);
      }
    }
    return { entries, blocks, uuid: superblock.toString('hex', 48, 64) };
  } finally {
    closeSync(fd);
  }
}

type Read = (offset: number, length: number) => Buffer;

function readInode(read: Read, inode: number): { entry: ErofsEntry; data: Buffer } {
  const at = inode * 32;
  const head = read(at, 64);
  const layout = LAYOUTS[head.readUInt16LE(0) >> 1] ?? 'unknown';
  const kind = KINDS[head.readUInt16LE(4) >> 12] ?? 'unknown';
  const words = head.readUInt16LE(2);
  const xattrBytes = words === 0 ? 0 : 12 + (words - 1) * 4;
  const place = head.readUInt32LE(16);
  const sizeBytes = Number(head.readBigUInt64LE(8));
  const data = dataOf(read, { layout, place, sizeBytes, behind: at + 64 + xattrBytes });
  const entry = {
    kind,
    mode: head.readUInt16LE(4) & 0o7777,
    uid: head.readUInt32LE(24),
    gid: head.readUInt32LE(28),
    mtimeSeconds: Number(head.readBigInt64LE(32)),
    mtimeNs: head.readUInt32LE(40),
    links: head.readUInt32LE(44),
    sizeBytes,
    xattrs: xattrsOf(read(at + 64, xattrBytes)),
    ...(kind === 'directory' ? {} : { content: shownContent(data) }),
    inode,
    layout,
    place,
  };
  return { entry, data };
}

/** Data of an inode; of large ones with holes, what is between those. */
function dataOf(
  read: Read,
  { layout, place, sizeBytes, behind }: { layout: string; place: number; sizeBytes: number; behind: number },
): Buffer {
  if (layout === 'blocks') return read(place * BLOCK, sizeBytes);
  if (layout === 'inline') {
    const whole = sizeBytes - (sizeBytes % BLOCK || BLOCK);
    if ((behind % BLOCK) + sizeBytes - whole > BLOCK) throw new Error('data behind an inode leave its block');
    return Buffer.concat([read(place * BLOCK, whole), read(behind, sizeBytes - whole)]);
  }
  const chunkBytes = BLOCK << place;
  const table = read(behind, Math.ceil(sizeBytes / chunkBytes) * 4);
  const parts: Buffer[] = [];
  for (let i = 0; i * 4 < table.length; i++) {
    const block = table.readUInt32LE(i * 4);
    const length = Math.min(chunkBytes, sizeBytes - i * chunkBytes);
    if (block !== HOLE) parts.push(read(block * BLOCK, length));
    else if (sizeBytes <= MAX_WHOLE_BYTES) parts.push(Buffer.alloc(length));
  }
  return Buffer.concat(parts);
}

function xattrsOf(body: Buffer): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>();
  for (let at = 12; at < body.length; ) {
    const nameEnd = at + 4 + body.readUInt8(at);
    const end = nameEnd + body.readUInt16LE(at + 2);
    xattrs.set(
      PREFIXES[body.readUInt8(at + 1)] + body.toString('latin1', at + 4, nameEnd),
      body.subarray(nameEnd, end),
    );
    at = Math.ceil(end / 4) * 4;
  }
  return xattrs;
}

/** Names in a directory. @throws Error if they are not in the order of their bytes, by which a kernel finds them. */
function namesIn(data: Buffer): { name: string; child: number }[] {
  const found: { name: string; child: number }[] = [];
  for (let start = 0; start < data.length; start += BLOCK) {
    const block = data.subarray(start, start + BLOCK);
    const count = block.readUInt16LE(8) / 12;
    for (let i = 0; i < count; i++) {
      const nameAt = block.readUInt16LE(i * 12 + 8);
      const end = i + 1 < count ? block.readUInt16LE(i * 12 + 20) : block.length;
      const [name = ''] = block.toString('latin1', nameAt, end).split('\0');
      if (found.length > 0 && name <= (found.at(-1)?.name ?? '')) throw new Error('names are not sorted');
      found.push({ name, child: Number(block.readBigUInt64LE(i * 12)) });
    }
  }
  return found;
}

/** Content as text, or its digest if it is long. */
export function shownContent(data: Uint8Array): string {
  return data.length > SHOWN_BYTES
    ? createHash('sha256').update(data).digest('hex')
    : Buffer.from(data).toString('latin1');
}

/** Complaint of fsck.erofs about an image; '' if there is none. */
export function fsckErofs(path: string): string {
  const { status, stdout, stderr } = spawnSync('fsck.erofs', [path], { encoding: 'utf8' });
  return status === 0 ? '' : `${status} ${stdout}${stderr}`;
}
