/** Pieces of any length, read in the lengths that are asked for. */
import { imageError } from '../image-error.js';

export class BlockReader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #held: Uint8Array = new Uint8Array(0);
  #position = 0;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** Number of bytes that were taken. */
  get position(): number {
    return this.#position;
  }

  /** Takes the next `length` bytes; undefined where nothing is left. @throws TsvmError if only some are. */
  async take(length: number): Promise<Uint8Array | undefined> {
    if (this.#held.length >= length) return this.#cut(length);
    const pieces: Uint8Array[] = [];
    for await (const piece of this.#some(length)) pieces.push(piece);
    const bytes = Buffer.concat(pieces);
    if (bytes.length === 0 && length > 0) return undefined;
    if (bytes.length < length) throw cutShort();
    return bytes;
  }

  /** Takes the next `length` bytes. @throws TsvmError if there are fewer. */
  async need(length: number): Promise<Uint8Array> {
    const bytes = await this.take(length);
    if (bytes === undefined) throw cutShort();
    return bytes;
  }

  /** Takes the next `length` bytes in pieces. @throws TsvmError if there are fewer. */
  async *pass(length: number): AsyncGenerator<Uint8Array> {
    let passed = 0;
    for await (const piece of this.#some(length)) {
      passed += piece.length;
      yield piece;
    }
    if (passed < length) throw cutShort();
  }

  /** Reads what is left. @throws TsvmError if that is more than `maxBytes`. */
  async drain(maxBytes: number): Promise<void> {
    for await (const _ of this.#some(maxBytes));
    if ((await this.take(1)) !== undefined) throw imageError('it goes on long after its end');
  }

  /** Ends the source, whether anything is left or not. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async *#some(length: number): AsyncGenerator<Uint8Array> {
    for (let missing = length; missing > 0; ) {
      if (this.#held.length === 0) {
        const { value, done } = await this.#pieces.next();
        if (done === true) return;
        this.#held = value;
        continue;
      }
      const piece = this.#cut(Math.min(missing, this.#held.length));
      missing -= piece.length;
      yield piece;
    }
  }

  #cut(length: number): Uint8Array {
    const piece = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    this.#position += length;
    return piece;
  }
}

const cutShort = (): Error => imageError('it is cut short');
