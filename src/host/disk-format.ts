/** Disk formats that are not raw, known by their first bytes. */
import type { FileHandle } from 'node:fs/promises';
import { extname } from 'node:path';
import { TsvmError, type TsvmErrorCode } from '../errors.js';
import { shellQuote } from '../util/shell-quote.js';

interface DiskFormat {
  /** Name for people. */
  readonly name: string;
  /** Name for `qemu-img convert -f`. */
  readonly qemuName: string;
  readonly offset: number;
  readonly magic: string;
  /** Extensions of such files. */
  readonly extensions: readonly string[];
}

const QCOW = ['.qcow2', '.qcow'];
const VMDK = ['.vmdk'];
const PARALLELS = ['.hdd', '.hds'];

/** Formats by QEMU's documentation of each (docs/interop/qcow2.txt, block/*.c), their magics in latin1. */
const FORMATS: readonly DiskFormat[] = [
  { name: 'qcow2', qemuName: 'qcow2', offset: 0, magic: 'QFI\xfb\0\0\0\x02', extensions: QCOW },
  { name: 'qcow2', qemuName: 'qcow2', offset: 0, magic: 'QFI\xfb\0\0\0\x03', extensions: QCOW },
  { name: 'qcow', qemuName: 'qcow', offset: 0, magic: 'QFI\xfb', extensions: QCOW },
  { name: 'qed', qemuName: 'qed', offset: 0, magic: 'QED\0', extensions: ['.qed'] },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: 'KDMV', extensions: VMDK },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: 'COWD', extensions: VMDK },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: '# Disk DescriptorFile', extensions: VMDK },
  { name: 'VHDX', qemuName: 'vhdx', offset: 0, magic: 'vhdxfile', extensions: ['.vhdx'] },
  { name: 'VHD', qemuName: 'vpc', offset: 0, magic: 'conectix', extensions: ['.vhd'] },
  { name: 'VDI', qemuName: 'vdi', offset: 0x40, magic: '\x7f\x10\xda\xbe', extensions: ['.vdi'] },
  { name: 'Parallels', qemuName: 'parallels', offset: 0, magic: 'WithoutFreeSpace', extensions: PARALLELS },
  { name: 'Parallels', qemuName: 'parallels', offset: 0, magic: 'WithouFreSpacExt', extensions: PARALLELS },
];

/** Length of the part of a file that has every magic. */
const MAGIC_BYTES = 0x60;

/** The format of an image that begins so; undefined for a raw one. */
export function foreignFormat(start: Uint8Array): DiskFormat | undefined {
  const text = Buffer.from(start).toString('latin1');
  return FORMATS.find(({ offset, magic }) => text.startsWith(magic, offset));
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

/** Tells the operator. */
export const warnOfFormat = (text: string): void => process.emitWarning(text, 'TsvmWarning');
