/** Refusal of image files that are not raw. */
import type { FileHandle } from 'node:fs/promises';
import { extname } from 'node:path';
import { TsvmError, type TsvmErrorCode } from '../errors.js';
import { DISK_FORMATS, type DiskFormat } from '../util/disk-formats.js';
import { shellQuote } from '../util/shell-quote.js';

/** Length of the part of a file that has every magic. */
const MAGIC_BYTES = 0x60;

/** The format of an image that begins so; undefined for a raw one. */
function foreignFormat(start: Uint8Array): DiskFormat | undefined {
  const text = Buffer.from(start).toString('latin1');
  return DISK_FORMATS.find(({ offset, magic }) => text.startsWith(magic, offset));
}

/**
 * Refuses a file whose content and name are another format's: a guest would see its tables as the disk. The content alone is the guest's
 * to write: such a file is taken as raw, since a guest must not decide what its disk is. A block device is taken as it is.
 *
 * @param subject - what the file is, for the message: `disk root.img`
 * @param warn - is told of a file that is another format's by its content only
 * @throws TsvmError of `code`, with the command that converts it.
 */
export async function refuseForeignFormat(
  file: FileHandle,
  { code, subject, path }: { readonly code: TsvmErrorCode; readonly subject: string; readonly path: string },
  warn: (text: string) => void = () => {},
): Promise<void> {
  if (!(await file.stat()).isFile()) return;
  const { buffer, bytesRead } = await file.read(new Uint8Array(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
  const format = foreignFormat(buffer.subarray(0, bytesRead));
  if (format === undefined) return;
  const extension = extname(path);
  if (!format.extensions.includes(extension.toLowerCase())) {
    warn(
      `${subject} begins as a ${format.name} image does, and is taken as raw: convert it if it came as one`,
    );
    return;
  }
  const raw = `${path.slice(0, -extension.length)}.raw`;
  throw new TsvmError(code, `${subject} is a ${format.name} image, not a raw one`, {
    hint: `convert it, and give what comes of it: qemu-img convert -f ${format.qemuName} -O raw ${shellQuote(path)} ${shellQuote(raw)}`,
  });
}
