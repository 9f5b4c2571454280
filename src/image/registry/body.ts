/** Bodies of answers, of which a registry may send as much as it likes. */
import type { IncomingMessage } from 'node:http';
import { imageError } from '../image-error.js';
import { networkError } from './net-error.js';

/** Longest body that is read for the sake of its connection, which can be used again then. */
const MAX_DRAINED_BYTES = 16 << 10;

/** Pieces of a body. Whoever stops early ends its connection. @throws TsvmError or Interruption */
export async function* pieces(response: IncomingMessage, host: string): AsyncGenerator<Uint8Array> {
  try {
    yield* response as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw networkError(host, error);
  } finally {
    if (!response.complete) response.destroy();
  }
}

/** Reads a whole body of at most `maxBytes`. @throws TsvmError `TSVM_IMAGE` if it is longer */
export async function readBody(response: IncomingMessage, maxBytes: number, host: string): Promise<Buffer> {
  const all: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces(response, host)) {
    bytes += piece.length;
    if (bytes > maxBytes) throw imageError(`${host}: a document of it is longer than ${maxBytes} bytes`);
    all.push(piece);
  }
  return Buffer.concat(all);
}

/** Lets go of a body that nobody needs. */
export function dropBody(response: IncomingMessage): void {
  const length = response.headers['content-length'];
  if (length !== undefined && Number(length) <= MAX_DRAINED_BYTES) response.resume();
  else response.destroy();
  response.on('error', () => {}); // nobody needs it
}
