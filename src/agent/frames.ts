/** Frames of the protocol: 12 bytes of head, and a payload. */
import { FRAME, LAST, MAX_PAYLOAD_BYTES, STREAM, STREAMS } from './protocol.js';
import { Violation } from './violation.js';

export const HEAD_BYTES = 12;
const HELLO_BYTES = 4;
const CREDIT_BYTES = 4;
const HOLE_BYTES = 8;

/** Shape that each type of frame must have. */
interface Shape {
  readonly leastBytes: number;
  readonly mostBytes: number;
  readonly mostDetail: number;
}

const ANY_STREAM = STREAMS - 1;
const SHAPES: Readonly<Record<number, Shape>> = {
  [FRAME.HELLO]: { leastBytes: HELLO_BYTES, mostBytes: HELLO_BYTES, mostDetail: 0 },
  [FRAME.REQUEST]: { leastBytes: 0, mostBytes: MAX_PAYLOAD_BYTES, mostDetail: LAST },
  [FRAME.REPLY]: { leastBytes: 0, mostBytes: MAX_PAYLOAD_BYTES, mostDetail: LAST },
  [FRAME.DATA]: { leastBytes: 1, mostBytes: MAX_PAYLOAD_BYTES, mostDetail: ANY_STREAM },
  [FRAME.END]: { leastBytes: 0, mostBytes: 0, mostDetail: ANY_STREAM },
  [FRAME.CREDIT]: { leastBytes: CREDIT_BYTES, mostBytes: CREDIT_BYTES, mostDetail: STREAM.IN },
  [FRAME.CLOSE]: { leastBytes: 0, mostBytes: 0, mostDetail: 0 },
  [FRAME.HOLE]: { leastBytes: HOLE_BYTES, mostBytes: HOLE_BYTES, mostDetail: ANY_STREAM },
};

export interface FrameHead {
  readonly session: number;
  readonly type: number;
  readonly detail: number;
}

/** Taker of the frames that were decoded. `payload` may be kept; it is a part of what was read. */
export type TakeFrame = (head: FrameHead, payload: Buffer) => void;

/**
 * Decoder of what comes from the agent. It checks the shape of each frame before it waits for the payload. DATA is handed on as it
 * comes, uncopied: a frame of which only a part was read becomes several; any other frame is handed on whole.
 */
export class FrameDecoder {
  readonly #take: TakeFrame;
  readonly #headBytes = Buffer.alloc(HEAD_BYTES);
  #headLength = 0;
  #head: FrameHead = { session: 0, type: 0, detail: 0 };
  /** Bytes of the frame's payload that have not come. */
  #missing = 0;
  /** Payload of which a part has come, for frames other than DATA. */
  #gathered: Buffer | undefined;

  constructor(take: TakeFrame) {
    this.#take = take;
  }

  /** Takes what was read. @throws Violation at a frame that is none; the decoder is of no use after that, or after an error of the taker. */
  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#headLength < HEAD_BYTES) {
        const count = bytes.copy(this.#headBytes, this.#headLength, at);
        this.#headLength += count;
        at += count;
        if (this.#headLength < HEAD_BYTES) return;
        this.#begin();
        if (this.#missing === 0) this.#hand(bytes.subarray(at, at));
      } else {
        const piece = bytes.subarray(at, at + this.#missing);
        at += piece.length;
        this.#payload(piece);
      }
    }
  }

  #begin(): void {
    const length = this.#headBytes.readUInt32LE(0);
    const type = this.#headBytes.readUInt8(8);
    const detail = this.#headBytes.readUInt8(9);
    const shape = SHAPES[type];
    if (shape === undefined) throw new Violation(`a frame of type ${type}`);
    if (length < shape.leastBytes || length > shape.mostBytes)
      throw new Violation(`a frame of type ${type} with ${length} bytes`);
    if (detail > shape.mostDetail || this.#headBytes.readUInt16LE(10) !== 0)
      throw new Violation(`a frame of type ${type} with a head that is none`);
    this.#head = { session: this.#headBytes.readUInt32LE(4), type, detail };
    this.#missing = length;
  }

  #payload(piece: Buffer): void {
    const whole = this.#gathered === undefined && piece.length === this.#missing;
    if (this.#head.type === FRAME.DATA || whole) {
      this.#missing -= piece.length;
      this.#hand(piece);
      return;
    }
    this.#gathered ??= Buffer.allocUnsafe(this.#missing);
    piece.copy(this.#gathered, this.#gathered.length - this.#missing);
    this.#missing -= piece.length;
    if (this.#missing > 0) return;
    const gathered = this.#gathered;
    this.#gathered = undefined;
    this.#hand(gathered);
  }

  #hand(payload: Buffer): void {
    if (this.#missing === 0) this.#headLength = 0;
    this.#take(this.#head, payload);
  }
}

/** Writes the head of a frame, with its payload behind it if that is short. */
export function frame(type: number, session: number, detail = 0, payload?: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + (payload?.length ?? 0));
  writeHead(bytes, type, session, detail, payload?.length ?? 0);
  if (payload !== undefined) bytes.set(payload, HEAD_BYTES);
  return bytes;
}

/** Writes the head of a frame whose payload follows by itself. */
export function frameHead(type: number, session: number, detail: number, payloadBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES);
  writeHead(bytes, type, session, detail, payloadBytes);
  return bytes;
}

function writeHead(bytes: Buffer, type: number, session: number, detail: number, payloadBytes: number): void {
  bytes.writeUInt32LE(payloadBytes, 0);
  bytes.writeUInt32LE(session, 4);
  bytes.writeUInt8(type, 8);
  bytes.writeUInt8(detail, 9);
  bytes.writeUInt16LE(0, 10);
}

/** Payload of one 32-bit number: HELLO and CREDIT. */
export function number32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(CREDIT_BYTES);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Payload of HOLE. */
export function number64(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(HOLE_BYTES);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
