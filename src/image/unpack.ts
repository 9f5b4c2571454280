/**
 * Layers of an image (OCI image-spec 1.1, layer.md) as one directory: each is an archive over those below it.
 *
 * bsdtar unpacks what the filter makes of them: it follows no symbolic link of an archive, and knows owners and attributes.
 *
 * @spec oci-image-1.1 layer.md  Layers  #yes
 */
import { lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { TsvmError } from '../errors.js';
import { Blob } from './blob.js';
import { compared } from './digest.js';
import type { Layer } from './image.js';
import { imageError } from './image-error.js';
import { feed, outputFrom } from './program.js';
import { filterTar, type Limits, MARK } from './tar-filter.js';
import { BLOCK_BYTES, parseHeader } from './tar-format.js';

/** Mark of a directory in which nothing of the layers below is. */
const OPAQUE = '.wh..wh..opq';
export const BSDTAR = { name: 'bsdtar', debianPackage: 'libarchive-tools' } as const;
export const BSDCAT = { name: 'bsdcat', debianPackage: 'libarchive-tools' } as const;
/** Default bounds of an image: more files than any distribution has, fewer bytes than fill most disks. */
const LIMITS: Readonly<Limits> = { entries: 8_000_000, bytes: 256 * 2 ** 30 };

/** Compressions, by the first bytes. What is none of them is not compressed. */
const COMPRESSIONS: readonly (readonly number[])[] = [
  [0x1f, 0x8b], // gzip
  [0x28, 0xb5, 0x2f, 0xfd], // zstd
  [0x50, 0x2a, 0x4d, 0x18], // zstd, after a frame that is skipped
  [0x42, 0x5a, 0x68], // bzip2
  [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], // xz
  [0x04, 0x22, 0x4d, 0x18], // lz4
];

/**
 * Unpacks layers, the lowest first, into an empty directory. Owners and attributes are kept for the superuser. No path of an archive
 * leads through a symbolic link or out of the directory; devices, file flags, ACLs and the like are left out.
 *
 * @throws TsvmError `TSVM_IMAGE` that names the archive and what is wrong with it; `TSVM_HOST` if bsdtar is not installed.
 */
export async function unpackLayers(
  layers: readonly Layer[],
  directory: string,
  limits: Readonly<Limits> = LIMITS,
): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const left = { ...limits };
  for (const [i, layer] of layers.entries()) {
    await using blob = await Blob.open(layer);
    if (i > 0) {
      // A mark may stand behind what takes the place of what it hides.
      const marks = await marksOf(blob, { ...left });
      await named(blob, async () => {
        for (const mark of marks) whiteOut(mark, directory);
      });
    }
    await unpackOver(blob, layer.diffId, directory, left);
  }
}

async function unpackOver(
  blob: Blob,
  diffId: string | undefined,
  directory: string,
  limits: Limits,
): Promise<void> {
  const superuser = process.geteuid?.() === 0;
  const owners = superuser ? ['--same-owner', '--numeric-owner'] : ['--no-same-owner'];
  const options = ['-x', '-p', ...owners, '--xattrs', '--no-fflags', '--no-acls', '-C', directory, '-f', '-'];
  await named(blob, async () => {
    await feed(BSDTAR, options, filterTar(await uncompressed(blob, diffId), { superuser, limits }));
    await blob.finish();
  });
}

const isAnother = (): Error =>
  imageError(
    'unpacked, it does not have the digest that the image’s configuration says',
    'the image is not whole: copy it again',
  );

/** Names in a layer that say what is not there any more: where a mark stands in the layer says nothing. */
async function marksOf(blob: Blob, limits: Limits): Promise<readonly string[]> {
  const marks: string[] = [];
  await named(blob, async () => {
    const entries = filterTar(await uncompressed(blob), {
      superuser: false,
      limits,
      onMark: (path) => marks.push(path),
    });
    for await (const _ of entries);
    await blob.finish();
  });
  return marks;
}

/** Looks whether a file begins as an archive does. @throws TsvmError `TSVM_IMAGE` that names it. */
export async function lookAtArchive(blob: Blob): Promise<void> {
  await named(blob, async () => {
    const start = await blob.magic();
    if (isCompressed(start) || (start.length === BLOCK_BYTES && start.every((byte) => byte === 0))) return;
    if (start.length < BLOCK_BYTES)
      throw imageError('it is not an archive', 'tar -C ROOT -cf FILE . makes one');
    parseHeader(start);
  });
}

const isCompressed = (start: Uint8Array): boolean =>
  COMPRESSIONS.some((magic) => magic.every((byte, i) => start[i] === byte));

async function uncompressed(blob: Blob, diffId?: string): Promise<AsyncIterable<Uint8Array>> {
  const compressed = isCompressed(await blob.magic());
  const pieces = compressed ? outputFrom(BSDCAT, [], blob.pieces()) : blob.pieces();
  const known = diffId === undefined || (!compressed && diffId === blob.digest);
  return known ? pieces : compared(pieces, diffId, isAnother);
}

/** Runs `work`; its errors name the archive. */
async function named(blob: Blob, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof TsvmError && (error.code !== 'TSVM_IMAGE' || error.message.startsWith(blob.name))) {
      throw error;
    }
    // What has not the digest that is its name is that, whatever else is wrong with it.
    await blob.finish();
    const hint = error instanceof TsvmError ? error.hint : undefined;
    throw imageError(`${blob.name}: ${error instanceof Error ? error.message : error}`, hint, error);
  }
}

/** Removes what a mark says, before any of its layer is unpacked. */
function whiteOut(mark: string, directory: string): void {
  const parts = mark.split('/');
  const name = parts.pop() ?? '';
  const folder = folderWithin(directory, parts);
  if (folder === undefined) return;
  if (name === OPAQUE) for (const one of readdirSync(folder, { encoding: 'buffer' })) remove(folder, one);
  else remove(folder, bytesOf(name.slice(MARK.length)));
}

function remove(folder: Buffer, name: Buffer): void {
  if (['', '.', '..'].includes(name.toString('latin1'))) return;
  rmSync(joined(folder, name), { recursive: true, force: true });
}

/** A directory below `root`, found through no link; undefined if there is none. */
function folderWithin(root: string, parts: readonly string[]): Buffer | undefined {
  let folder: Buffer = Buffer.from(root);
  for (const part of parts) {
    if (part === '..') return undefined;
    folder = joined(folder, bytesOf(part));
    if (lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return undefined;
  }
  return folder;
}

/** Bytes of a name in an archive, which is text of no locale. */
const bytesOf = (name: string): Buffer => Buffer.from(name, 'latin1');
const joined = (folder: Buffer, name: Buffer): Buffer => Buffer.concat([folder, Buffer.from('/'), name]);
