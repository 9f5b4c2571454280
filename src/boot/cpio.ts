/**
 * Writes and reads "newc" cpio archives, the format of an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * @spec linux-initramfs "cpio_file"  "newc" archives  #yes
 */
import { TsvmError } from '../errors.js';
import { S_IFDIR, S_IFMT } from '../util/file-mode.js';
import { alignUp, totalBytes } from '../util/units.js';

const MAGIC = '070701';
const HEADER_BYTES = 110;
const TRAILER = 'TRAILER!!!';
const ALIGN = 4;
/** Places of header fields, of eight hexadecimal digits each. */
const FIELD_MODE = 1;
const FIELD_DATA_BYTES = 6;
const FIELD_NAME_BYTES = 11;

/** A file of the archive; all belong to root and are dated 0, so that equal input makes an equal archive. */
export interface CpioEntry {
  /** Path without a leading slash. */
  readonly path: string;
  /** Type and permissions, as in stat(2). */
  readonly mode: number;
  readonly data?: Uint8Array;
  readonly device?: { readonly major: number; readonly minor: number };
}

/** An archive of these entries with its trailer; directories must precede what is in them. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const put = (entry: CpioEntry, inode: number): void => {
    const name = new TextEncoder().encode(`${entry.path}\0`);
    const data = entry.data ?? new Uint8Array();
    const links = (entry.mode & S_IFMT) === S_IFDIR ? 2 : 1;
    const fields = [
      inode,
      entry.mode,
      0, // uid
      0, // gid
      links,
      0, // mtime
      data.length,
      0, // device of the archive
      0,
      entry.device?.major ?? 0,
      entry.device?.minor ?? 0,
      name.length,
      0, // checksum: only in 070702
    ];
    const header = MAGIC + fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join('');
    parts.push(
      new TextEncoder().encode(header),
      name,
      padding(HEADER_BYTES + name.length),
      data,
      padding(data.length),
    );
  };
  entries.forEach((entry, i) => {
    put(entry, i + 1);
  });
  put({ path: TRAILER, mode: 0 }, 0);
  return concat(parts);
}

/** Reads the entries of an archive up to its trailer; data are views of it. @throws TsvmError `TSVM_INITRD` if it is damaged. */
export function* readCpio(archive: Uint8Array): Generator<CpioEntry> {
  const text = (start: number, end: number): string =>
    Buffer.from(archive.subarray(start, end)).toString('utf8');
  for (let at = 0; ; ) {
    const field = (index: number): number =>
      Number.parseInt(text(at + MAGIC.length + index * 8, at + MAGIC.length + index * 8 + 8), 16);
    const nameAt = at + HEADER_BYTES;
    const nameEnd = nameAt + field(FIELD_NAME_BYTES);
    const dataAt = alignUp(nameEnd, ALIGN);
    const dataEnd = dataAt + field(FIELD_DATA_BYTES);
    if (text(at, at + MAGIC.length) !== MAGIC || !(dataEnd <= archive.length)) {
      throw new TsvmError('TSVM_INITRD', `the initramfs is damaged: no archive member at byte ${at}`);
    }
    // More NUL bytes than one may follow the name, to put the data at a page's start.
    const [path = ''] = text(nameAt, nameEnd).split('\0', 1);
    if (path === TRAILER) return;
    yield { path, mode: field(FIELD_MODE), data: archive.subarray(dataAt, dataEnd) };
    at = alignUp(dataEnd, ALIGN);
  }
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGN - (length % ALIGN)) % ALIGN);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(totalBytes(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
