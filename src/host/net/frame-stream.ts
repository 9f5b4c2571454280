/** Ethernet frames in a stream of bytes, as QEMU's stream backend and passt have them: 32 bits of length, then the frame. */
import { ETHERNET_HEADER_BYTES, type FrameSource, MAX_FRAME_BYTES } from '../../devices/backends/net.js';

const LENGTH_BYTES = 4;
/** Room for a frame of the greatest size. */
export const BATCH_BYTES: number = LENGTH_BYTES + MAX_FRAME_BYTES;
/**
 * Gathered for one write, of smaller ones; a larger one is written alone. passt reads what a frame lacks in one call and takes a short
 * answer for the end of the stream's order (tap.c, tap_handler_passt(), of 2023): then frames are lost until it stands still. The kernel hands a
 * write on in pieces of some 36 KiB, so what a frame lacks is in one of them only if no other frame came before it in that write.
 */
const GATHER_BYTES = 32 * 1024;
/** Written or waiting for it; then the sender waits. */
export const MAX_BATCHES = 8;

/** Takes frames out of a stream that comes in pieces. */
export class FrameDecoder {
  /** False: the frame was not taken, and is offered again. */
  readonly #deliver: (frame: Uint8Array) => boolean;
  /** A frame that began in an earlier piece, with its length. Made when it is needed. */
  #partial = new Uint8Array(0);
  #partialBytes = 0;
  /** Bytes that were not taken yet. */
  #rest: Uint8Array | undefined;

  constructor(deliver: (frame: Uint8Array) => boolean) {
    this.#deliver = deliver;
  }

  /**
   * Delivers what is complete. False: a frame was refused; nothing may be pushed until `resume` returned true. The piece is
   * kept meanwhile, not copied.
   *
   * @throws RangeError for a length that no frame has: the stream is out of step for good.
   */
  push(piece: Uint8Array): boolean {
    let at = 0;
    while (at < piece.length) {
      if (this.#partialBytes > 0) {
        at += this.#gather(piece, at);
        const length = this.#partialLength();
        if (length === undefined || this.#partialBytes < LENGTH_BYTES + length) continue;
        if (!this.#deliver(this.#partial.subarray(LENGTH_BYTES, LENGTH_BYTES + length)))
          return this.#keep(piece.subarray(at));
        this.#partialBytes = 0;
      } else {
        const left = piece.length - at;
        const length = left < LENGTH_BYTES ? undefined : lengthAt(piece, at);
        if (length === undefined || left < LENGTH_BYTES + length) {
          at += this.#gather(piece, at);
          continue;
        }
        const frameAt = at + LENGTH_BYTES;
        if (!this.#deliver(piece.subarray(frameAt, frameAt + length))) return this.#keep(piece.subarray(at));
        at = frameAt + length;
      }
    }
    return true;
  }

  /** Offers again what was refused, and what came after it. */
  resume(): boolean {
    const rest = this.#rest;
    if (rest === undefined) return true;
    this.#rest = undefined;
    const length = this.#partialLength();
    if (length !== undefined && this.#partialBytes === LENGTH_BYTES + length) {
      if (!this.#deliver(this.#partial.subarray(LENGTH_BYTES, LENGTH_BYTES + length)))
        return this.#keep(rest);
      this.#partialBytes = 0;
    }
    return this.push(rest);
  }

  #keep(rest: Uint8Array): false {
    this.#rest = rest;
    return false;
  }

  /** Length of the frame in `#partial`, once that is known. */
  #partialLength(): number | undefined {
    return this.#partialBytes < LENGTH_BYTES ? undefined : lengthAt(this.#partial, 0);
  }

  /** Moves what the partial frame lacks, or as much as there is; returns how much. */
  #gather(piece: Uint8Array, at: number): number {
    if (this.#partial.length === 0) this.#partial = new Uint8Array(LENGTH_BYTES + MAX_FRAME_BYTES);
    const end = LENGTH_BYTES + (this.#partialLength() ?? 0);
    const count = Math.min(piece.length - at, end - this.#partialBytes);
    this.#partial.set(piece.subarray(at, at + count), this.#partialBytes);
    this.#partialBytes += count;
    return count;
  }
}

function lengthAt(bytes: Uint8Array, at: number): number {
  const length =
    (bytes[at] as number) * 0x100_0000 +
    (((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number));
  if (length < ETHERNET_HEADER_BYTES || length > MAX_FRAME_BYTES)
    throw new RangeError(`a frame of ${length} bytes`);
  return length;
}

/** Puts frames into a stream, many in one write; the next when that is done, since Node makes one write of those that wait. */
export class FrameBatcher {
  /** `done`: the bytes are the batcher's again. */
  readonly #write: (bytes: Uint8Array, done: () => void) => void;
  readonly #onWritable: () => void;
  readonly #mayLeave: (frame: Uint8Array) => boolean;
  readonly #free: Uint8Array[] = [];
  #made = 0;
  #batch: Uint8Array | undefined;
  #used = 0;
  readonly #waiting: { readonly batch: Uint8Array; readonly used: number }[] = [];
  #writing = false;

  /** @param mayLeave - filter; a frame that it refuses is dropped */
  constructor(
    write: (bytes: Uint8Array, done: () => void) => void,
    onWritable: () => void,
    mayLeave: (frame: Uint8Array) => boolean = () => true,
  ) {
    this.#write = write;
    this.#onWritable = onWritable;
    this.#mayLeave = mayLeave;
  }

  /** There is room for a frame of the greatest size. */
  get writable(): boolean {
    return this.#free.length > 0 || this.#made < MAX_BATCHES;
  }

  add(frame: FrameSource): void {
    const length = frame.remaining;
    if (this.#batch !== undefined && this.#used + LENGTH_BYTES + length > GATHER_BYTES) this.flush();
    this.#batch ??= this.#take();
    const batch = this.#batch;
    const at = this.#used;
    batch[at] = length >>> 24;
    batch[at + 1] = length >>> 16;
    batch[at + 2] = length >>> 8;
    batch[at + 3] = length;
    const bytes = batch.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length);
    frame.read(bytes);
    // Looked at where the guest cannot change it any more.
    if (!this.#mayLeave(bytes)) return;
    this.#used = at + LENGTH_BYTES + length;
  }

  #take(): Uint8Array {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    this.#made++;
    return new Uint8Array(BATCH_BYTES);
  }

  flush(): void {
    if (this.#batch === undefined || this.#used === 0) return;
    this.#waiting.push({ batch: this.#batch, used: this.#used });
    this.#batch = undefined;
    this.#used = 0;
    if (!this.#writing) this.#writeNext();
  }

  #writeNext(): void {
    const next = this.#waiting.shift();
    this.#writing = next !== undefined;
    if (next === undefined) return;
    this.#write(next.batch.subarray(0, next.used), () => {
      const waited = !this.writable;
      this.#free.push(next.batch);
      this.#writeNext();
      if (waited) this.#onWritable();
    });
  }
}
