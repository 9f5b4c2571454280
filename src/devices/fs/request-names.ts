/** Names and other texts of FUSE requests, which end with NUL: read, bounded and checked. */
import { isUtf8 } from 'node:buffer';
import type { ChainReader } from '../../virtio/chain.js';
import { decodeName } from '../backends/file-names.js';
import { fileError } from '../backends/file-system.js';
import { MAX_NAME_BYTES } from './messages.js';
import { IN_HEADER_BYTES } from './protocol.js';

/** PATH_MAX, with its NUL. */
const MAX_TARGET_BYTES = 4096;
/** XATTR_SIZE_MAX of linux/limits.h. */
const MAX_XATTR_BYTES = 65_536;
/** Most bytes of a request before the data of a write: none has more. */
const MAX_ARGUMENT_BYTES = IN_HEADER_BYTES + 2 * (MAX_TARGET_BYTES + MAX_NAME_BYTES + 64);

export class RequestNames {
  readonly #anyBytes: boolean;

  /** @param anyBytes false if a name that is not UTF-8 is refused with EILSEQ: a file system of a user's is not asked to know of such */
  constructor(anyBytes: boolean) {
    this.#anyBytes = anyBytes;
  }

  /** The one name of a request. */
  one(reader: ChainReader): string {
    return checked(this.#texts(reader, [MAX_NAME_BYTES])[0]);
  }

  /** The old name and the new one. */
  two(reader: ChainReader): [string, string] {
    const [from, to] = this.#texts(reader, [MAX_NAME_BYTES, MAX_NAME_BYTES]);
    return [checked(from), checked(to)];
  }

  nameAndTarget(reader: ChainReader): [name: string, target: string] {
    const [name, target] = this.#texts(reader, [MAX_NAME_BYTES, MAX_TARGET_BYTES - 1]);
    return [checked(name), target];
  }

  /** The name of an extended attribute. */
  xattr(reader: ChainReader): string {
    return notEmpty(this.#texts(reader, [MAX_NAME_BYTES])[0]);
  }

  /** The name of an extended attribute, and `valueBytes` of what follows it. */
  xattrAndValue(reader: ChainReader, valueBytes: number): [name: string, value: Uint8Array] {
    if (valueBytes > MAX_XATTR_BYTES || reader.remaining > MAX_NAME_BYTES + 1 + valueBytes)
      throw fileError('E2BIG');
    const bytes = new Uint8Array(reader.remaining);
    reader.read(bytes);
    const end = bytes.indexOf(0);
    if (end < 0 || bytes.length - end - 1 !== valueBytes) throw fileError('EINVAL');
    return [notEmpty(this.#decode(bytes.subarray(0, end))), bytes.subarray(end + 1)];
  }

  /** Reads what is left of a request, as texts. */
  #texts(reader: ChainReader, maxBytes: readonly number[]): [string, string] {
    if (reader.length > MAX_ARGUMENT_BYTES) throw fileError('EINVAL');
    const bytes = new Uint8Array(reader.remaining);
    reader.read(bytes);
    const found: string[] = [];
    let start = 0;
    for (const max of maxBytes) {
      const end = bytes.indexOf(0, start);
      if (end < 0) throw fileError('EINVAL');
      if (end - start > max) throw fileError('ENAMETOOLONG');
      found.push(this.#decode(bytes.subarray(start, end)));
      start = end + 1;
    }
    return found as [string, string];
  }

  #decode(bytes: Uint8Array): string {
    if (!this.#anyBytes && !isUtf8(bytes)) throw fileError('EILSEQ');
    return decodeName(bytes);
  }
}

function notEmpty(name: string): string {
  if (name === '') throw fileError('EINVAL');
  return name;
}

function checked(name: string): string {
  if (name === '' || name === '.' || name === '..' || name.includes('/')) throw fileError('EINVAL');
  return name;
}
