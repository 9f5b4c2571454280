/** Compressed data that cannot be unpacked: damaged, truncated, of an unknown kind, or too large when unpacked. */
export class DecompressError extends Error {
  override readonly name = 'DecompressError';
}

/** What every decoder returns: the data of the first stream, and how much of the input it took. */
export interface Unpacked {
  readonly data: Uint8Array;
  readonly consumedBytes: number;
}
