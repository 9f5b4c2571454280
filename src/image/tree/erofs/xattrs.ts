/**
 * Extended attributes of a file, as they follow its inode.
 *
 * @spec linux-erofs erofs_xattr_entry  Attributes beside their inode     #yes
 * @spec linux-erofs erofs_xattr_entry  Attributes that inodes share, long prefixes, filters  #no  an image has few
 */
import { alignUp } from '../../../util/units.js';
import { imageError } from '../../image-error.js';

/** Kinds of attributes, by the prefix of their names; those of others are left out. */
const KINDS: readonly (readonly [prefix: string, kind: number])[] = [
  ['user.', 1],
  ['trusted.', 4],
  ['security.', 6],
];
/** struct erofs_xattr_ibody_header: nothing of it is used. */
export const XATTR_HEADER_BYTES = 12;
const ENTRY_BYTES = 4;
const MAX_NAME_BYTES = 255;
/** Bound of a file's attributes together: the largest that Linux has one of. */
export const MAX_XATTR_BYTES = 64 * 1024;

/**
 * Attributes in the form of the file system; empty if there are none.
 *
 * @throws TsvmError `TSVM_IMAGE` if they are too long
 */
export function formatXattrs(xattrs: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const entries = [...xattrs].flatMap(([name, value]) => entryOf(name, value));
  if (entries.length === 0) return Buffer.alloc(0);
  const whole = Buffer.concat([Buffer.alloc(XATTR_HEADER_BYTES), ...entries]);
  if (whole.length > MAX_XATTR_BYTES)
    throw imageError(
      `a file’s attributes are longer than ${MAX_XATTR_BYTES} bytes`,
      'make the image without them',
    );
  return whole;
}

function entryOf(name: string, value: Uint8Array): readonly Buffer[] {
  const [prefix, kind] = KINDS.find(([start]) => name.startsWith(start)) ?? [];
  if (prefix === undefined || kind === undefined) return [];
  const rest = Buffer.from(name.slice(prefix.length), 'latin1');
  if (rest.length > MAX_NAME_BYTES || value.length > MAX_XATTR_BYTES - 1) {
    throw imageError(
      `the attribute ${JSON.stringify(name.slice(0, MAX_NAME_BYTES))} of a file is too long`,
      'make the image without it',
    );
  }
  const entry = Buffer.alloc(alignUp(ENTRY_BYTES + rest.length + value.length, ENTRY_BYTES));
  entry.writeUInt8(rest.length, 0);
  entry.writeUInt8(kind, 1);
  entry.writeUInt16LE(value.length, 2);
  entry.set(rest, ENTRY_BYTES);
  entry.set(value, ENTRY_BYTES + rest.length);
  return [entry];
}
