/** Compressions of archives, known by their first bytes: gzip by Node.js itself, the others by bsdcat. */
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { Blob } from './blob.js';
import { compared } from './digest.js';
import { imageError } from './image-error.js';
import { outputFrom } from './program.js';

export const BSDCAT = { name: 'bsdcat', debianPackage: 'libarchive-tools' } as const;

export type Compression = 'gzip' | 'zstd' | 'bzip2' | 'xz' | 'lz4';

const MAGICS: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['zstd', [0x50, 0x2a, 0x4d, 0x18]], // after a frame that is skipped
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['lz4', [0x04, 0x22, 0x4d, 0x18]],
];
/** Length of what is unpacked at a time. */
const PIECE_BYTES = 256 << 10;

/** Compression of a file, by its first bytes; undefined if it has none. */
export const compressionOf = (start: Uint8Array): Compression | undefined =>
  MAGICS.find(([, magic]) => magic.every((byte, i) => start[i] === byte))?.[0];

/** Tells a compressed file by its first bytes. */
export const isCompressed = (start: Uint8Array): boolean => compressionOf(start) !== undefined;

/**
 * Reads a blob without its compression.
 *
 * @param diffId - digest of what is read so, which is compared when all of it is
 * @throws TsvmError `TSVM_HOST` if bsdcat is needed and not installed.
 */
export async function contentOf(blob: Blob, diffId?: string): Promise<AsyncIterable<Uint8Array>> {
  const compression = compressionOf(await blob.magic());
  const known = diffId === undefined || (compression === undefined && diffId === blob.digest);
  const pieces =
    compression === 'gzip'
      ? gunzip(blob.pieces())
      : compression === undefined
        ? blob.pieces()
        : outputFrom(BSDCAT, [], blob.pieces());
  return known ? pieces : compared(pieces, diffId, isAnother);
}

const isAnother = (): Error =>
  imageError(
    'unpacked, it does not have the digest that the image’s configuration says',
    'the image is not whole: copy it again',
  );

function gunzip(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const unpacked = createGunzip({ chunkSize: PIECE_BYTES });
  // Its errors come out of `unpacked`.
  pipeline(Readable.from(pieces), unpacked, () => {});
  return unpacked;
}
