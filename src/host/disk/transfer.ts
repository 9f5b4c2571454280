/** Lists of buffers, as readv(2) and writev(2) take them. */

/** Hands out a list of buffers piece by piece. */
export class BufferCursor {
  readonly #buffers: readonly Uint8Array[];
  #index = 0;
  #offset = 0;

  constructor(buffers: readonly Uint8Array[]) {
    this.#buffers = buffers;
  }

  /** The next `length` bytes, or what is left of them. */
  take(length: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    for (let left = length; left > 0; ) {
      const buffer = this.#buffers[this.#index];
      if (buffer === undefined) break;
      const piece = buffer.subarray(this.#offset, this.#offset + left);
      if (piece.length > 0) taken.push(piece);
      left -= piece.length;
      this.#offset += piece.length;
      if (this.#offset === buffer.length) {
        this.#index++;
        this.#offset = 0;
      }
    }
    return taken;
  }
}

/** Copies `bytes` into buffers that are as long together. */
export function scatter(bytes: Uint8Array, buffers: readonly Uint8Array[]): void {
  let at = 0;
  for (const buffer of buffers) {
    buffer.set(bytes.subarray(at, at + buffer.length));
    at += buffer.length;
  }
}

/** Goes on after a short transfer until nothing more moves: at the end of a file, or of the disk under it. */
export async function wholeTransfer(
  buffers: readonly Uint8Array[],
  offset: number,
  transfer: (rest: Uint8Array[], at: number) => Promise<number>,
): Promise<number> {
  let rest = [...buffers];
  let done = 0;
  while (rest.length > 0) {
    const moved = await transfer(rest, offset + done);
    if (moved === 0) break;
    done += moved;
    rest = without(rest, moved);
  }
  return done;
}

/** The buffers that are left after their first `bytes` bytes. */
function without(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = bytes;
  for (const buffer of buffers) {
    if (skip >= buffer.length) {
      skip -= buffer.length;
    } else {
      rest.push(skip === 0 ? buffer : buffer.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}
