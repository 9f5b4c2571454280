/**
 * Unpacks an initramfs on the host. It takes what Linux takes (init/initramfs.c; Documentation/driver-api/early-userspace/
 * buffer-format.rst): archives one after another, compressed or not, with zeros between them, with or without trailers.
 */
import { TsvmError } from '../errors.js';
import { alignUp } from '../util/units.js';
import { compressionFormat, decompressFirst, type XzProgram } from './decompress/decompress.js';
import { fileKind, fileSystemKind } from './file-kind.js';

/** What guest memory below the initrd limit could hold at all. */
export const MAX_UNPACKED_BYTES = 2 ** 31 - 1;
const CPIO_HEADER_BYTES = 110;
const CPIO_FIELD_FILESIZE = 54;
const CPIO_FIELD_NAMESIZE = 94;
const ALIGN = 4;
/** The end of a boot configuration, which the kernel takes off the initramfs (include/linux/bootconfig.h). */
const BOOTCONFIG_MAGIC = '#BOOTCONFIG\n';

/**
 * The archives of an initramfs, each uncompressed; or the whole file, where only the kernel may be able to unpack it. Fails with
 * TSVM_INITRD.
 *
 * @param warn - takes a line about what was left to the kernel, or left out
 */
export async function unpackInitrd(
  bytes: Uint8Array,
  xz: XzProgram,
  maxBytes: number = MAX_UNPACKED_BYTES,
  warn: (text: string) => void = () => {},
): Promise<Uint8Array[]> {
  const asItIs = (reason: string): Uint8Array[] => {
    warn(`the initramfs is passed on as it is: ${reason}`);
    return [bytes];
  };
  const fileSystem = fileSystemKind(bytes);
  if (fileSystem !== undefined) return asItIs(forRamDisk(fileSystem));
  if (endsWithBootConfig(bytes)) return asItIs('the kernel reads the boot configuration at its end');

  const archives: Uint8Array[] = [];
  let left = maxBytes;
  for (let at = skipZeros(bytes, 0); at < bytes.length; at = skipZeros(bytes, at)) {
    const rest = bytes.subarray(at);
    const archiveBytes = membersBytes(rest);
    if (archiveBytes > 0) {
      archives.push(rest.subarray(0, archiveBytes));
      at += archiveBytes;
      continue;
    }
    const format = compressionFormat(rest);
    if (format === undefined) {
      if (archives.length === 0) throw notAnInitramfs('the file', bytes);
      warn(`the initramfs has unknown data at byte ${at}: Linux stops there, and they are left out`);
      return archives;
    }
    if (format === 'lzo') return asItIs('only a kernel with CONFIG_RD_LZO unpacks LZO');
    const unpacked = await unpackStream(rest, xz, left);
    if (unpacked instanceof TsvmError) return asItIs(unpacked.message);
    const { data, consumedBytes } = unpacked;
    const inner = fileSystemKind(data);
    if (inner !== undefined) return asItIs(forRamDisk(inner));
    const end = pushArchives(data, archives);
    if (end < data.length) {
      if (archives.length === 0) throw notAnInitramfs('what the file unpacks to', data);
      warn(
        `the initramfs has unknown data in its archive at byte ${at}: Linux stops there, and they are left out`,
      );
      return archives;
    }
    left -= data.length;
    at += consumedBytes;
  }
  if (archives.length === 0) throw initrdError('the initramfs is empty');
  return archives;
}

/** True for the magics of "newc" and of its variant with checksums. */
function isCpio(bytes: Uint8Array): boolean {
  const magic = String.fromCharCode(...bytes.subarray(0, 6));
  return magic === '070701' || magic === '070702';
}

/** The stream at the start of `bytes`, or why this host cannot unpack it, where a kernel might. */
async function unpackStream(bytes: Uint8Array, xz: XzProgram, maxBytes: number) {
  try {
    return await decompressFirst(bytes, { xz, maxBytes });
  } catch (error) {
    if (error instanceof TsvmError) return error;
    throw initrdError(
      `cannot unpack the initramfs: ${error instanceof Error ? error.message : String(error)}`,
      'give the machine more memory: --memory; or pass it on as it is: --no-unpack-initrd',
      error,
    );
  }
}

/** Adds the archives at the start of unpacked `data` to `archives`. Returns where they end. */
function pushArchives(data: Uint8Array, archives: Uint8Array[]): number {
  let end = 0;
  for (let at = skipZeros(data, 0); at < data.length; at = skipZeros(data, at)) {
    const rest = data.subarray(at);
    const archiveBytes = membersBytes(rest);
    if (archiveBytes === 0) return end;
    archives.push(rest.subarray(0, archiveBytes));
    at += archiveBytes;
    end = at;
  }
  return data.length;
}

/** Length of the members of an archive at the start of `bytes`: nothing, if there are none. The trailer is one. */
function membersBytes(bytes: Uint8Array): number {
  let at = 0;
  while (isCpio(bytes.subarray(at, at + 6))) {
    if (at + CPIO_HEADER_BYTES > bytes.length) throw truncated();
    const nameBytes = hexField(bytes, at + CPIO_FIELD_NAMESIZE);
    const fileBytes = hexField(bytes, at + CPIO_FIELD_FILESIZE);
    const nameEnd = at + CPIO_HEADER_BYTES + nameBytes;
    const end = fileBytes === 0 ? nameEnd : alignUp(nameEnd, ALIGN) + fileBytes;
    if (end > bytes.length) throw truncated();
    at = alignUp(end, ALIGN);
  }
  return Math.min(at, bytes.length);
}

function hexField(bytes: Uint8Array, offset: number): number {
  const text = String.fromCharCode(...bytes.subarray(offset, offset + 8));
  if (!/^[0-9a-fA-F]{8}$/.test(text)) throw initrdError('the initramfs is damaged: a bad archive header');
  return Number.parseInt(text, 16);
}

function endsWithBootConfig(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(-BOOTCONFIG_MAGIC.length)).toString('latin1') === BOOTCONFIG_MAGIC;
}

const forRamDisk = (fileSystem: string): string =>
  `it is ${fileSystem}, which takes a kernel with CONFIG_BLK_DEV_RAM and root=/dev/ram0`;

function skipZeros(bytes: Uint8Array, at: number): number {
  while (at < bytes.length && bytes[at] === 0) at += 1;
  return at;
}

function truncated(): TsvmError {
  return initrdError('the initramfs is truncated: its archive ends within a file');
}

function notAnInitramfs(what: string, bytes: Uint8Array): TsvmError {
  const kind = fileKind(bytes);
  return initrdError(
    `${what} is not an initramfs: neither a cpio archive nor compressed${kind === undefined ? '' : `, but ${kind.name}`}`,
    kind?.remedy ?? 'make it with: find . | cpio -o -H newc; or pass it on as it is: --no-unpack-initrd',
  );
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
