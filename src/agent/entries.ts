/** Facts of files, and the entries of lists. */
import { shownPath } from './path.js';
import { decimal, StringSplitter } from './strings.js';
import { Violation } from './violation.js';

/** Longest string of an entry: Linux's paths are shorter, those of a deep tree below what is listed need not be. */
const MAX_STRING_BYTES = 1 << 20;
/** S_IFMT, and what it may be (inode(7)): S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK. */
const KIND_MASK = 0o170000;
/** Kind of a file. */
export type AgentFileKind =
  | 'file'
  | 'directory'
  | 'link'
  | 'fifo'
  | 'character-device'
  | 'block-device'
  | 'socket';

const KINDS = {
  32768: 'file',
  16384: 'directory',
  40960: 'link',
  4096: 'fifo',
  8192: 'character-device',
  24576: 'block-device',
  49152: 'socket',
} as const satisfies Readonly<Record<number, AgentFileKind>>;

/** Facts of a file. */
export interface AgentFileFacts {
  readonly kind: AgentFileKind;
  /** Permissions, with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Size in bytes, holes included; no more than a whole number can be. */
  readonly size: number;
  /** Last change of the content: seconds since 1970, of which nanoseconds are a part. */
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  readonly inode: bigint;
  /** Number of names. */
  readonly links: number;
  /** Number of the device that the file is, as Linux's `makedev` has it; else 0. */
  readonly device: number;
  /** Number of the file system that the file is on. */
  readonly fileSystem: number;
}

/** File in a list. */
export interface AgentFileEntry extends AgentFileFacts {
  /** Path relative to what is listed; what is no UTF-8 in it is replaced. */
  readonly path: string;
  /** The same path, byte by byte. */
  readonly pathBytes: Buffer;
  /** Target of a symbolic link. */
  readonly target?: Buffer;
}

const FACTS =
  /^(\d{1,7}) (\d{1,10}) (\d{1,10}) (\d{1,20}) (-?\d{1,19})\.(\d{9}) (\d{1,20}) (\d{1,20}) (\d{1,20}) (\d{1,20})$/;
const MAX_ID = 0xffff_ffff;

/** Reads facts. @throws Violation */
export function parseFacts(text: string): AgentFileFacts {
  const [whole, mode = '', uid = '', gid = '', size, seconds, nanoseconds, inode, links, device, fileSystem] =
    FACTS.exec(text) ?? [];
  if (whole === undefined) throw new Violation('facts of a file that are none');
  const bits = decimal(mode, 'mode', 0o177777);
  const kind = KINDS[(bits & KIND_MASK) as keyof typeof KINDS];
  if (kind === undefined) throw new Violation('a file of no kind');
  return {
    kind,
    mode: bits & 0o7777,
    uid: decimal(uid, 'uid', MAX_ID),
    gid: decimal(gid, 'gid', MAX_ID),
    size: clamped(size),
    mtime: { seconds: clamped(seconds), nanoseconds: Number(nanoseconds) },
    inode: BigInt(inode ?? 0),
    links: clamped(links),
    device: clamped(device),
    fileSystem: clamped(fileSystem),
  };
}

/** Files of some file systems, such as /proc, have sizes that no number has. */
function clamped(text: string | undefined): number {
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, Number(text)));
}

/** Reads entries of a list, as they come. @throws Violation */
export async function* readEntries(bytes: AsyncIterable<Buffer>): AsyncGenerator<AgentFileEntry> {
  const splitter = new StringSplitter(MAX_STRING_BYTES);
  let strings: Buffer[] = [];
  for await (const piece of bytes) {
    for (const string of splitter.push(piece)) {
      // The splitter's strings are parts of what was read, which is kept as long as they are.
      strings.push(Buffer.from(string));
      if (strings.length < 3) continue;
      yield entryOf(strings);
      strings = [];
    }
  }
  splitter.end();
  if (strings.length > 0) throw new Violation('an entry that is cut off');
}

function entryOf([facts, path, target]: readonly Buffer[]): AgentFileEntry {
  const pathBytes = path ?? Buffer.alloc(0);
  checkRelative(pathBytes);
  const read = parseFacts((facts ?? Buffer.alloc(0)).toString('latin1'));
  return {
    ...read,
    path: pathBytes.toString(),
    pathBytes,
    ...(read.kind === 'link' && target !== undefined ? { target } : {}),
  };
}

/** Checks a path of the agent's that is relative to something: no part of it leads elsewhere. @throws Violation */
export function checkRelative(path: Buffer): void {
  if (path.length === 0) return;
  const parts = path.toString('latin1').split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new Violation(`the path ${shownPath(path)} in a list`);
}
