/** Sparse files in tar archives: the stored pieces are one behind the other, and a map says where each belongs. */
import { imageError } from '../image-error.js';
import type { BlockReader } from './block-reader.js';
import { BLOCK_BYTES, parseSparseBlock } from './format.js';

/** Bound of a map, far beyond the pieces of any file in an image. */
const MAX_PIECES = 1 << 19;
/** Longest number in a map of version 1.0. */
const MAX_DIGITS = 15;

/** Bytes of a file that are stored, and where they belong. */
export interface SparsePiece {
  readonly offset: number;
  readonly length: number;
}

/** Data of a file, and where it belongs; between extents are holes. */
export interface Extent {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Reads the rest of a map in GNU's old form: blocks that follow the header. */
export async function readOldMap(
  input: BlockReader,
  first: readonly number[],
  more: boolean,
): Promise<SparsePiece[]> {
  const numbers = [...first];
  for (let follows = more; follows; ) {
    const next = parseSparseBlock(await input.need(BLOCK_BYTES));
    numbers.push(...next.map);
    checkCount(numbers.length / 2);
    follows = next.more;
  }
  return piecesOf(numbers);
}

/** Reads a map of version 1.0, which stands before the data, in blocks: their number, and two for each piece, in lines. */
export async function readMapBefore(
  input: BlockReader,
  dataBytes: number,
): Promise<{ map: SparsePiece[]; mapBytes: number }> {
  const numbers: number[] = [];
  let text = '';
  let mapBytes = 0;
  for (let wanted = 1; numbers.length < wanted; ) {
    if (mapBytes + BLOCK_BYTES > dataBytes) throw damagedMap();
    text += Buffer.from(await input.need(BLOCK_BYTES)).toString('latin1');
    mapBytes += BLOCK_BYTES;
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    if (text.length > MAX_DIGITS && numbers.length + lines.length < wanted) throw damagedMap();
    for (const line of lines.slice(0, wanted === 1 ? undefined : wanted - numbers.length)) {
      if (numbers.length === wanted) break;
      if (!/^\d{1,15}$/.test(line)) throw damagedMap();
      numbers.push(Number(line));
      if (numbers.length !== 1) continue;
      checkCount(numbers[0]!);
      wanted = 1 + 2 * numbers[0]!;
    }
  }
  return { map: piecesOf(numbers.slice(1)), mapBytes };
}

/** Compares a map with the sizes: its pieces are in order, within the file, and as long together as what is stored. */
export function checkMap(map: readonly SparsePiece[], realSize: number, storedBytes: number): void {
  checkCount(map.length);
  let end = 0;
  let stored = 0;
  for (const { offset, length } of map) {
    if (offset < end || length < 0 || !Number.isSafeInteger(offset + length)) throw damagedMap();
    end = offset + length;
    stored += length;
  }
  if (end > realSize || stored !== storedBytes) throw damagedMap();
}

function checkCount(pieces: number): void {
  if (pieces > MAX_PIECES) throw imageError('a sparse file of it has too many pieces');
}

/** Pieces of numbers: an offset and a length each. @throws TsvmError `TSVM_IMAGE` if one is left */
export function piecesOf(numbers: readonly number[]): SparsePiece[] {
  if (numbers.length % 2 !== 0) throw damagedMap();
  return numbers.flatMap((offset, i) => (i % 2 === 0 ? [{ offset, length: numbers[i + 1]! }] : []));
}

export const damagedMap = (): Error => imageError('the map of a sparse file of it is damaged');
