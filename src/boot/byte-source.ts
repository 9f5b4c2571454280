import assert from 'node:assert';

/** Where an image comes from: a file, whose parts go straight to where they belong, or memory. */
export interface ByteSource {
  readonly length: number;
  /** Bytes to look at. A range that reaches beyond the end is cut there. */
  slice(offset: number, length: number): Promise<Uint8Array>;
  /** Fills all of `target`. Rejects where the source ends earlier. */
  copyTo(target: Uint8Array, offset: number): Promise<void>;
}

/** An image that is in memory already. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    length: bytes.length,
    slice: async (offset, length) => bytes.subarray(offset, offset + length),
    copyTo: async (target, offset) => {
      const from = bytes.subarray(offset, offset + target.length);
      assert(from.length === target.length, 'a range beyond the end of the image');
      target.set(from);
    },
  };
}
