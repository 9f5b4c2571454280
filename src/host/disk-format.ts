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
}

/** Formats by QEMU's documentation of each (docs/interop/qcow2.txt, block/*.c), their magics in latin1. */
const FORMATS: readonly DiskFormat[] = [
  { name: 'qcow2', qemuName: 'qcow2', offset: 0, magic: 'QFI\xfb\0\0\0\x02' },
  { name: 'qcow2', qemuName: 'qcow2', offset: 0, magic: 'QFI\xfb\0\0\0\x03' },
  { name: 'qcow', qemuName: 'qcow', offset: 0, magic: 'QFI\xfb' },
  { name: 'qed', qemuName: 'qed', offset: 0, magic: 'QED\0' },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: 'KDMV' },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: 'COWD' },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: '# Disk DescriptorFile' },
  { name: 'VHDX', qemuName: 'vhdx', offset: 0, magic: 'vhdxfile' },
  { name: 'VHD', qemuName: 'vpc', offset: 0, magic: 'conectix' },
  { name: 'VDI', qemuName: 'vdi', offset: 0x40, magic: '\x7f\x10\xda\xbe' },
  { name: 'Parallels', qemuName: 'parallels', offset: 0, magic: 'WithoutFreeSpace' },
  { name: 'Parallels', qemuName: 'parallels', offset: 0, magic: 'WithouFreSpacExt' },
];

/** Length of the part of a file that has every magic. */
const MAGIC_BYTES = 0x60;

/** The format of an image that begins so; undefined for a raw one. */
export function foreignFormat(start: Uint8Array): DiskFormat | undefined {
  const text = Buffer.from(start).toString('latin1');
  return FORMATS.find(({ offset, magic }) => text.startsWith(magic, offset));
}

/**
 * Refuses a file whose content is another format's: a guest would see its tables as the disk. A block device is taken as it is.
 *
 * @param subject - what the file is, for the message: `disk root.img`
 * @throws TsvmError of `code`, with the command that converts it.
 */
export async function refuseForeignFormat(
  file: FileHandle,
  { code, subject, path }: { readonly code: TsvmErrorCode; readonly subject: string; readonly path: string },
): Promise<void> {
  if (!(await file.stat()).isFile()) return;
  const { buffer, bytesRead } = await file.read(new Uint8Array(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
  const format = foreignFormat(buffer.subarray(0, bytesRead));
  if (format === undefined) return;
  const extension = extname(path);
  const raw = `${extension === '' ? path : path.slice(0, -extension.length)}.raw`;
  throw new TsvmError(code, `${subject} is a ${format.name} image, not a raw one`, {
    hint: `convert it, and give what comes of it: qemu-img convert -f ${format.qemuName} -O raw ${shellQuote(path)} ${shellQuote(raw)}`,
  });
}
