/**
 * Unpacks an initramfs on the host. Linux takes archives one after another, compressed or not, with zeros between
 * them (Documentation/driver-api/early-userspace/buffer-format.rst); so does this.
 */
import { TsvmError } from '../errors.js';
import { compressionFormat, decompressFirst, type XzProgram } from './decompress/decompress.js';

/** What guest memory below the initrd limit could hold at all. */
export const MAX_UNPACKED_BYTES = 2 ** 31 - 1;
const CPIO_HEADER_BYTES = 110;
const CPIO_TRAILER = 'TRAILER!!!';
const CPIO_FIELD_FILESIZE = 54;
const CPIO_FIELD_NAMESIZE = 94;
const ALIGN = 4;

/** The archives of an initramfs, each uncompressed. Fails with TSVM_INITRD. */
export async function unpackInitrd(
  bytes: Uint8Array,
  xz: XzProgram,
  maxBytes: number = MAX_UNPACKED_BYTES,
): Promise<Uint8Array[]> {
  const archives: Uint8Array[] = [];
  let left = maxBytes;
  for (let at = skipZeros(bytes, 0); at < bytes.length; at = skipZeros(bytes, at)) {
    const rest = bytes.subarray(at);
    if (isCpio(rest)) {
      const length = cpioBytes(rest);
      archives.push(rest.subarray(0, length));
      at += length;
      continue;
    }
    if (compressionFormat(rest) === undefined) {
      throw initrdError(
        archives.length === 0
          ? 'the file is not an initramfs: neither a cpio archive nor compressed'
          : `the initramfs is damaged: unknown data at byte ${at}`,
        'make it with: find . | cpio -o -H newc; or pass it on as it is: --no-unpack-initrd',
      );
    }
    try {
      const { data, consumedBytes } = await decompressFirst(rest, { xz, maxBytes: left });
      archives.push(data);
      left -= data.length;
      at += consumedBytes;
    } catch (error) {
      if (error instanceof TsvmError) throw error;
      throw initrdError(
        `cannot unpack the initramfs: ${error instanceof Error ? error.message : String(error)}`,
        'give the machine more memory: --memory; or pass it on as it is: --no-unpack-initrd',
        error,
      );
    }
  }
  if (archives.length === 0) throw initrdError('the initramfs is empty');
  return archives;
}

/** True for the magics of "newc" and of its variant with checksums. */
export function isCpio(bytes: Uint8Array): boolean {
  const magic = String.fromCharCode(...bytes.subarray(0, 6));
  return magic === '070701' || magic === '070702';
}

/** Length of the archive at the start of `bytes`, its trailer included. */
function cpioBytes(bytes: Uint8Array): number {
  let at = 0;
  while (at + CPIO_HEADER_BYTES <= bytes.length && isCpio(bytes.subarray(at))) {
    const nameBytes = hexField(bytes, at + CPIO_FIELD_NAMESIZE);
    const fileBytes = hexField(bytes, at + CPIO_FIELD_FILESIZE);
    const nameAt = at + CPIO_HEADER_BYTES;
    const name = Buffer.from(
      bytes.subarray(nameAt, nameAt + Math.min(nameBytes, CPIO_TRAILER.length)),
    ).toString('latin1');
    const end = alignUp(alignUp(nameAt + nameBytes) + fileBytes);
    if (name === CPIO_TRAILER) return Math.min(end, bytes.length);
    at = end;
  }
  if (at >= bytes.length) throw initrdError('the initramfs is truncated: its archive has no end');
  throw initrdError(`the initramfs is damaged: no archive member at byte ${at}`);
}

function hexField(bytes: Uint8Array, offset: number): number {
  const text = String.fromCharCode(...bytes.subarray(offset, offset + 8));
  if (!/^[0-9a-fA-F]{8}$/.test(text)) throw initrdError('the initramfs is damaged: a bad archive header');
  return Number.parseInt(text, 16);
}

function skipZeros(bytes: Uint8Array, at: number): number {
  while (at < bytes.length && bytes[at] === 0) at += 1;
  return at;
}

function alignUp(value: number): number {
  return Math.ceil(value / ALIGN) * ALIGN;
}

function initrdError(
  message: string,
  hint = 'fetch or build the initramfs again, or give another: --initrd FILE',
  cause?: unknown,
): TsvmError {
  return new TsvmError('TSVM_INITRD', message, {
    hint,
    ...(cause === undefined ? {} : { cause }),
  });
}
