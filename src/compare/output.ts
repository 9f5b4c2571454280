/** What the program writes, and when it began to. */
import type { Readable } from 'node:stream';

export interface Output {
  /** From the request to the first byte. Never settles if there is none. */
  readonly firstMs: Promise<number>;
  /** So far. */
  text(): string;
}

/** @param since - the milliseconds since the request */
export function collectOutput(stream: Readable, since: () => number): Output {
  let text = '';
  const firstMs = new Promise<number>((resolve) => {
    stream.setEncoding('utf8').on('data', (piece: string) => {
      if (text === '') resolve(since());
      text += piece;
    });
  });
  return { firstMs, text: () => text };
}
