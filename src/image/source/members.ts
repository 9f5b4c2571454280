/** Files that an image is handed over in: those of a folder, or the members of an archive that is not compressed. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Blob, type BlobPlace, identityOf } from '../blob.js';
import { imageError } from '../image-error.js';
import { BLOCK_BYTES, paddedLength, parseHeader, TYPE } from '../tar/format.js';
import {
  addExtension,
  type Before,
  dataBytesOf,
  isExtension,
  kindOf,
  linkOf,
  nameOf,
  type TarKind,
} from '../tar/headers.js';

export interface Members {
  /** Name for messages. */
  readonly name: string;
  /** Place of a file; undefined if there is none. */
  find(path: string): BlobPlace | undefined;
}

/** Bound of members: an image's layers, and some files for each. */
const MAX_MEMBERS = 8192;
/** Longest name in a header of its own. */
const MAX_EXTENSION_BYTES = 64 << 10;
/** Bound of links that lead to a member. */
const MAX_LINKS = 8;

/** Files of a folder. */
export function folderMembers(folder: string): Members {
  return {
    name: folder,
    find(path) {
      const parts = partsOf(path);
      if (parts === undefined) return undefined;
      const at = join(folder, ...parts);
      return existsSync(at) ? { path: at } : undefined;
    },
  };
}

/** Names at the top of what Docker, podman, skopeo and builders write as an image's archive. */
const IMAGE_NAMES =
  /^(blobs|oci-layout|repositories|.*\.json|(sha256:)?[0-9a-f]{12,}.*|.*\.tar(\.[a-z0-9]+)?|.*\.tgz)$/;

const MEMBER_TYPES: readonly string[] = [TYPE.file, TYPE.directory, TYPE.hardLink, TYPE.symbolicLink];

/** Bytes that have an archive in them. */
export interface ArchiveBytes {
  readonly name: string;
  readonly sizeBytes: number;
  slice(offset: number, length: number): Promise<Uint8Array>;
}

/** Tells whether an archive may be one of an image, by the names at its top as far as it is there. */
export async function beginsAsImage(start: Uint8Array, name: string): Promise<boolean> {
  const slice = async (at: number, length: number) => start.subarray(at, at + length);
  let any = false;
  for await (const entry of entriesOf({ name, sizeBytes: Number.MAX_SAFE_INTEGER, slice })) {
    const parts = partsOf(entry.path);
    if (parts?.length === 0) continue;
    if (!isOfImage(entry, parts)) return false;
    any = true;
  }
  return any;
}

function isOfImage({ type }: ArchiveEntry, parts: readonly string[] | undefined): boolean {
  return IMAGE_NAMES.test(parts?.[0] ?? '') && MEMBER_TYPES.includes(type);
}

/**
 * Finds the members of an archive of an image; undefined for one that has a name at its top that such an archive has not: it is read no
 * further than there.
 *
 * @throws TsvmError `TSVM_IMAGE` for what is no tar archive, or is cut short
 */
export async function archiveMembers(blob: Blob): Promise<Members | undefined> {
  const members = new Map<string, BlobPlace>();
  const links = new Map<string, string>();
  for await (const entry of entriesOf(blob)) {
    const { kind, start, bytes, target } = entry;
    const parts = partsOf(entry.path);
    if (parts?.length === 0) continue; // the folder itself
    if (parts === undefined || !isOfImage(entry, parts)) return undefined;
    if (members.size + links.size > MAX_MEMBERS) return undefined;
    const name = parts.join('/');
    members.delete(name);
    links.delete(name);
    if (kind === 'file')
      members.set(name, { path: blob.path, start, bytes, member: name, identity: identityOf(blob.stats) });
    if (kind === 'hard-link') links.set(name, target);
    if (kind === 'link') links.set(name, join('/', ...parts.slice(0, -1), target));
  }
  return {
    name: blob.name,
    find(path) {
      let name = partsOf(path)?.join('/') ?? '';
      for (let i = 0; i < MAX_LINKS && links.has(name); i++)
        name = partsOf(links.get(name) ?? '')?.join('/') ?? '';
      return members.get(name);
    },
  };
}

/** Parts of a path that leads nowhere else; undefined if it does. */
function partsOf(path: string): string[] | undefined {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return parts.includes('..') || path.includes('\0') ? undefined : parts;
}

interface ArchiveEntry {
  readonly path: string;
  readonly type: string;
  readonly kind: TarKind | undefined;
  /** Offset and length of its data in the file. */
  readonly start: number;
  readonly bytes: number;
  /** Target of a link. */
  readonly target: string;
}

/** Entries of an archive by their headers alone. */
async function* entriesOf(blob: ArchiveBytes): AsyncGenerator<ArchiveEntry> {
  let before: Before = {};
  for (let at = 0; at + BLOCK_BYTES <= blob.sizeBytes; ) {
    const block = await blob.slice(at, BLOCK_BYTES);
    if (block.length < BLOCK_BYTES || block.every((byte) => byte === 0)) return;
    const header = named(blob, () => parseHeader(block));
    const start = at + BLOCK_BYTES;
    const name = nameOf(header, before);
    const kind = kindOf(header, name);
    const isBefore = isExtension(header);
    // What stands before a header is of its entry, not of a header between them.
    const bytes = isBefore ? header.size : dataBytesOf(kind, header, before);
    // An archive of an image has none that is so long: it is an entry of another archive, whose reader refuses it.
    const isTooLong = isBefore && bytes > MAX_EXTENSION_BYTES;
    if (!isTooLong && (bytes < 0 || start + bytes > blob.sizeBytes))
      throw imageError(`${blob.name}: it is cut short`);
    at = start + paddedLength(bytes);
    if (isBefore && !isTooLong) {
      const extension = Buffer.from(await blob.slice(start, bytes));
      named(blob, () => addExtension(before, header, extension));
      continue;
    }
    yield { path: name, target: linkOf(header, before), type: header.type, kind, start, bytes };
    before = {};
  }
}

function named<T>(blob: ArchiveBytes, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw imageError(`${blob.name}: ${cause instanceof Error ? cause.message : cause}`, undefined, cause);
  }
}
