/**
 * Headers of tar archives (POSIX.1-2017, pax; GNU tar's "Basic Tar Format").
 *
 * Texts are binary: a character is a byte, since names may have any.
 *
 * @spec posix-2017 "pax"  Interchange formats ustar and pax  #yes
 */
import { imageError } from '../image-error.js';

export const BLOCK_BYTES = 512;

/** Offset and length of fields of a header. */
type Place = readonly [at: number, length: number];
const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  link: [157, 100],
  magic: [257, 8],
  prefix: [345, 155],
} as const satisfies Record<string, Place>;
type Field = keyof typeof FIELDS;

/** GNU's old form of sparse files: four pairs of offset and length in the header, 21 in a block after it. */
const SPARSE = { header: 386, headerPairs: 4, extended: 482, realSize: 483, pairs: 21, more: 504, field: 12 };

export const TYPE = {
  file: '0',
  hardLink: '1',
  symbolicLink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
  contiguous: '7',
  sparse: 'S',
  pax: 'x',
  globalPax: 'g',
  longName: 'L',
  longLink: 'K',
} as const;

export interface Header {
  readonly name: string;
  readonly link: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Length of the data that follows. */
  readonly size: number;
  readonly mtime: number;
  /** Map of a sparse file of the old form: where its data belongs, and whether more of the map follows the header. */
  readonly sparse?: { readonly map: readonly number[]; readonly realSize: number; readonly more: boolean };
}

/** Parses a block that is a header. @throws TsvmError if it is none. */
export function parseHeader(block: Uint8Array): Header {
  if (numberIn(block, ...FIELDS.checksum) !== checksumOf(block)) throw imageError('it is not a tar archive');
  const place = (field: Field): Place => FIELDS[field];
  const text = (field: Field): string => textIn(block, ...place(field));
  const number = (field: Field): number => numberIn(block, ...place(field));
  const prefix = text('magic').startsWith('ustar') && block[FIELDS.magic[0] + 5] === 0 ? text('prefix') : '';
  const type = text('type') || TYPE.file;
  return {
    name: prefix === '' ? text('name') : `${prefix}/${text('name')}`,
    link: text('link'),
    type,
    mode: number('mode'),
    uid: number('uid'),
    gid: number('gid'),
    size: number('size'),
    mtime: number('mtime'),
    ...(type === TYPE.sparse
      ? {
          sparse: {
            map: sparsePairs(block, SPARSE.header, SPARSE.headerPairs),
            realSize: numberIn(block, SPARSE.realSize, SPARSE.field),
            more: block[SPARSE.extended] !== 0,
          },
        }
      : {}),
  };
}

/** Parses a block of the map that follows the header of a sparse file. */
export function parseSparseBlock(block: Uint8Array): { map: readonly number[]; more: boolean } {
  return { map: sparsePairs(block, 0, SPARSE.pairs), more: block[SPARSE.more] !== 0 };
}

function sparsePairs(block: Uint8Array, at: number, count: number): number[] {
  const numbers: number[] = [];
  for (let i = 0; i < count * 2; i += 2) {
    if (block[at + i * SPARSE.field] === 0) break;
    numbers.push(numberIn(block, at + i * SPARSE.field, SPARSE.field));
    numbers.push(numberIn(block, at + (i + 1) * SPARSE.field, SPARSE.field));
  }
  return numbers;
}

/** Length of content with what fills its last block. */
export function paddedLength(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

function textIn(block: Uint8Array, at: number, length: number): string {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end)).toString('latin1');
}

/** Octal digits, or GNU's form of larger and negative ones: the first bit, and a number of big-endian bytes. */
function numberIn(block: Uint8Array, at: number, length: number): number {
  const [first = 0, ...rest] = block.subarray(at, at + length);
  let value = 0;
  if ((first & 0x80) === 0) {
    const digits = textIn(block, at, length).trim();
    if (!/^[0-7]*$/.test(digits)) throw imageError('it is not a tar archive');
    value = Number.parseInt(digits || '0', 8);
  } else {
    value = (first & 0x40) === 0 ? first & 0x3f : (first & 0x7f) - 0x80;
    for (const byte of rest) value = value * 256 + byte;
  }
  if (!Number.isSafeInteger(value)) throw imageError('a number in it is too large');
  return value;
}

/** Sum of a header's bytes, with blanks for the sum itself. */
function checksumOf(block: Uint8Array): number {
  const [at, length] = FIELDS.checksum;
  let sum = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) sum += i >= at && i < at + length ? 0x20 : block[i]!;
  return sum;
}
