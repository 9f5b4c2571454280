/** The host's ends of streams to a guest: each tells in its own way that all went through (bench/guest/io.c). */
import type { Duplex } from 'node:stream';

export type Way = 'send' | 'receive' | 'ping';

/** Serves one stream of the guest's, which does `way` with `bytes`. */
export function serve(stream: Duplex, way: Way, bytes: number): void {
  stream.on('error', () => {}); // the guest says what went wrong
  if (way === 'ping') {
    stream.on('data', (piece: Buffer) => stream.write(piece));
    return;
  }
  if (way === 'receive') {
    const piece = Buffer.alloc(Math.min(bytes, 256 * 1024), 'x');
    let left = bytes;
    const more = (): void => {
      for (let room = true; room && left > 0; ) {
        const part = piece.subarray(0, left);
        left -= part.length;
        room = stream.write(part);
      }
      if (left === 0) stream.end();
    };
    stream.on('drain', more);
    stream.resume();
    more();
    return;
  }
  let got = 0;
  stream.on('data', (piece: Buffer) => {
    got += piece.length;
  });
  stream.on('end', () => stream.end(got === bytes ? 'k' : ''));
}
