/** Digests of blobs: SHA-256, as OCI writes them (image-spec 1.1, descriptor.md). */
import { createHash } from 'node:crypto';

export const DIGEST = /^sha256:[0-9a-f]{64}$/;

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Passes pieces on, and compares them with a digest when all have come. @throws what `complain` makes, in place of an end */
export async function* compared(
  pieces: AsyncIterable<Uint8Array>,
  digest: string,
  complain: () => Error,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const piece of pieces) {
    hash.update(piece);
    yield piece;
  }
  if (`sha256:${hash.digest('hex')}` !== digest) throw complain();
}
