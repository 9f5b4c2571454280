/**
 * The LZMA decoder that .lzma files and xz's LZMA2 share (LZMA SDK, lzma-specification.txt).
 *
 * Written here because every xz kernel uses the x86 branch filter, and no package on npm unpacks that without a native
 * build: xz-decompress and xzwasm are compiled without filters, @napi-rs/lzma knows none, node-liblzma is native and
 * LGPL, xz-compat fetches packages at run time.
 */
import { DecompressError } from './error.js';
import type { OutputBuffer } from './output.js';

const STATES = 12;
const POS_STATES_MAX = 16;
const LEN_TO_POS_STATES = 4;
const MIN_MATCH = 2;
const END_POS_MODEL = 14;
const FULL_DISTANCES = 128;
const ALIGN_BITS = 4;
const LOW_LENGTHS = 8;
const MID_LENGTHS = 8;
const HIGH_LENGTHS = 256;
const LITERAL_PROBS = 0x300;
/** LZMA2's limit; .lzma files of the kernel use 3, 0, 2. */
export const LZMA_MAX_LC_LP = 4;

const BIT_MODEL_TOTAL = 1 << 11;
const HALF = BIT_MODEL_TOTAL >> 1;
const MOVE_BITS = 5;
const TOP = 2 ** 24;

// All probabilities lie in one array, so that a decoded bit costs one load and one store.
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POS_STATES_MAX;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POS_SLOT = IS_REP0_LONG + STATES * POS_STATES_MAX;
const POS_SPECIAL = POS_SLOT + LEN_TO_POS_STATES * 64;
const POS_ALIGN = POS_SPECIAL + FULL_DISTANCES;
const MATCH_LENGTH = POS_ALIGN + (1 << ALIGN_BITS);
// Within a length coder:
const CHOICE = 0;
const CHOICE2 = 1;
const LOW = 2;
const MID = LOW + POS_STATES_MAX * LOW_LENGTHS;
const HIGH = MID + POS_STATES_MAX * MID_LENGTHS;
const LENGTH_PROBS = HIGH + HIGH_LENGTHS;
const REP_LENGTH = MATCH_LENGTH + LENGTH_PROBS;
const LITERAL = REP_LENGTH + LENGTH_PROBS;

/** Decodes into an {@link OutputBuffer}, whose contents since the last dictionary reset are the dictionary. */
export class LzmaDecoder {
  readonly #out: OutputBuffer;
  readonly #input: Uint8Array;
  #probs = new Uint16Array(0);
  #lc = 0;
  #lpMask = 0;
  #pbMask = 0;
  #state = 0;
  #rep0 = 0;
  #rep1 = 0;
  #rep2 = 0;
  #rep3 = 0;
  #range = 0;
  #code = 0;
  #dictionaryStart = 0;
  /** The part of a match that did not fit before the limit of {@link decode}. */
  #pendingLength = 0;
  /** Offset of the next input byte. */
  position = 0;

  constructor(input: Uint8Array, out: OutputBuffer) {
    this.#input = input;
    this.#out = out;
  }

  resetDictionary(): void {
    this.#dictionaryStart = this.#out.length;
  }

  /** Sets the properties byte: (pb * 5 + lp) * 9 + lc. */
  setProperties(byte: number): void {
    if (byte >= 9 * 5 * 5) throw new DecompressError('LZMA data is damaged: bad properties');
    const lc = byte % 9;
    const rest = Math.floor(byte / 9);
    const lp = rest % 5;
    const pb = Math.floor(rest / 5);
    if (lc + lp > LZMA_MAX_LC_LP) throw new DecompressError(`LZMA with lc=${lc} lp=${lp} is not supported`);
    this.#lc = lc;
    this.#lpMask = (1 << lp) - 1;
    this.#pbMask = (1 << pb) - 1;
    this.#probs = new Uint16Array(LITERAL + (LITERAL_PROBS << (lc + lp)));
  }

  resetState(): void {
    this.#probs.fill(HALF);
    this.#state = 0;
    this.#rep0 = this.#rep1 = this.#rep2 = this.#rep3 = 0;
    this.#pendingLength = 0;
  }

  /** Starts the range coder at {@link position}. */
  startRange(): void {
    if (this.position + 5 > this.#input.length) throw new DecompressError('LZMA data is truncated');
    if (this.#input[this.position] !== 0)
      throw new DecompressError('LZMA data is damaged: bad range coder start');
    this.#range = 0xffff_ffff;
    this.#code = 0;
    for (let i = 1; i < 5; i++)
      this.#code = ((this.#code << 8) | (this.#input[this.position + i] ?? 0)) >>> 0;
    this.position += 5;
  }

  /** True if the range coder ended where an encoder ends it. */
  get isRangeFinished(): boolean {
    return this.#code === 0;
  }

  /** Shifts in the byte that the range coder may still want, as an encoder's flush expects. */
  normalize(): void {
    if (this.#range < TOP) {
      this.#range = (this.#range << 8) >>> 0;
      this.#code = ((this.#code << 8) | (this.#input[this.position++] ?? 0)) >>> 0;
    }
  }

  /**
   * Decodes until the output has `limit` bytes; true if the stream's end marker came before. `inputEnd` is where the
   * compressed data end.
   */
  decode(limit: number, inputEnd: number): boolean {
    const out = this.#out;
    const probs = this.#probs;
    const lc = this.#lc;
    const pbMask = this.#pbMask;
    const lpMask = this.#lpMask;
    const base = this.#dictionaryStart;
    if (this.#pendingLength > 0) this.#copyMatch(limit);

    while (out.length < limit) {
      if (this.position > inputEnd) throw new DecompressError('LZMA data is truncated');
      const offset = out.length - base;
      const posState = offset & pbMask;
      let state = this.#state;

      if (this.#bit(IS_MATCH + (state << 4) + posState) === 0) {
        const previous = offset > 0 ? (out.bytes[out.length - 1] as number) : 0;
        const literal = LITERAL + LITERAL_PROBS * (((offset & lpMask) << lc) + (previous >>> (8 - lc)));
        out.reserve(1);
        out.bytes[out.length] = state < 7 ? this.#literal(probs, literal) : this.#matchedLiteral(literal);
        out.length += 1;
        this.#state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }

      if (this.#bit(IS_REP + state) === 0) {
        this.#rep3 = this.#rep2;
        this.#rep2 = this.#rep1;
        this.#rep1 = this.#rep0;
        this.#pendingLength = this.#length(MATCH_LENGTH, posState);
        this.#state = state < 7 ? 7 : 10;
        this.#rep0 = this.#distance(this.#pendingLength);
        if (this.#rep0 === 0xffff_ffff) {
          this.#pendingLength = 0;
          return true;
        }
      } else {
        if (offset === 0) throw new DecompressError('LZMA data is damaged: a match at the start');
        if (this.#bit(IS_REP_G0 + state) === 0) {
          if (this.#bit(IS_REP0_LONG + (state << 4) + posState) === 0) {
            this.#state = state < 7 ? 9 : 11;
            this.#pendingLength = 1;
            this.#copyMatch(limit);
            continue;
          }
        } else {
          let distance: number;
          if (this.#bit(IS_REP_G1 + state) === 0) {
            distance = this.#rep1;
          } else {
            if (this.#bit(IS_REP_G2 + state) === 0) {
              distance = this.#rep2;
            } else {
              distance = this.#rep3;
              this.#rep3 = this.#rep2;
            }
            this.#rep2 = this.#rep1;
          }
          this.#rep1 = this.#rep0;
          this.#rep0 = distance;
        }
        state = this.#state;
        this.#pendingLength = this.#length(REP_LENGTH, posState);
        this.#state = state < 7 ? 8 : 11;
      }
      this.#copyMatch(limit);
    }
    if (this.position > inputEnd) throw new DecompressError('LZMA data is truncated');
    return false;
  }

  /** True in the middle of a match that the last {@link decode} had to break off. */
  get isMidMatch(): boolean {
    return this.#pendingLength > 0;
  }

  #copyMatch(limit: number): void {
    const out = this.#out;
    const distance = this.#rep0 + 1;
    if (distance > out.length - this.#dictionaryStart) {
      throw new DecompressError('LZMA data is damaged: a match before the start');
    }
    const length = Math.min(this.#pendingLength, limit - out.length);
    out.reserve(length);
    const { bytes } = out;
    let to = out.length;
    const end = to + length;
    for (; to < end; to++) bytes[to] = bytes[to - distance] as number;
    out.length = end;
    this.#pendingLength -= length;
  }

  #bit(index: number): number {
    const probs = this.#probs;
    const prob = probs[index] as number;
    if (this.#range < TOP) {
      this.#range = (this.#range << 8) >>> 0;
      this.#code = ((this.#code << 8) | (this.#input[this.position++] as number)) >>> 0;
    }
    const bound = (this.#range >>> 11) * prob;
    if (this.#code < bound) {
      this.#range = bound;
      probs[index] = prob + ((BIT_MODEL_TOTAL - prob) >> MOVE_BITS);
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    probs[index] = prob - (prob >> MOVE_BITS);
    return 1;
  }

  /** Eight bits of a literal, with the range coder in locals: this loop is where the time goes. */
  #literal(probs: Uint16Array, at: number): number {
    const input = this.#input;
    let range = this.#range;
    let code = this.#code;
    let position = this.position;
    let symbol = 1;
    do {
      const index = at + symbol;
      const prob = probs[index] as number;
      if (range < TOP) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | (input[position++] as number)) >>> 0;
      }
      const bound = (range >>> 11) * prob;
      if (code < bound) {
        range = bound;
        probs[index] = prob + ((BIT_MODEL_TOTAL - prob) >> MOVE_BITS);
        symbol <<= 1;
      } else {
        range -= bound;
        code -= bound;
        probs[index] = prob - (prob >> MOVE_BITS);
        symbol = (symbol << 1) | 1;
      }
    } while (symbol < 0x100);
    this.#range = range;
    this.#code = code;
    this.position = position;
    return symbol & 0xff;
  }

  #matchedLiteral(at: number): number {
    const distance = this.#rep0 + 1;
    if (distance > this.#out.length - this.#dictionaryStart) {
      throw new DecompressError('LZMA data is damaged: a literal before the start');
    }
    let match = this.#out.bytes[this.#out.length - distance] as number;
    let symbol = 1;
    do {
      const matchBit = (match >>> 7) & 1;
      match <<= 1;
      const bit = this.#bit(at + ((1 + matchBit) << 8) + symbol);
      symbol = (symbol << 1) | bit;
      if (matchBit !== bit) {
        while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(at + symbol);
        break;
      }
    } while (symbol < 0x100);
    return symbol & 0xff;
  }

  #tree(at: number, bits: number): number {
    let symbol = 1;
    for (let i = 0; i < bits; i++) symbol = (symbol << 1) | this.#bit(at + symbol);
    return symbol - (1 << bits);
  }

  #reverseTree(at: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(at + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  #length(coder: number, posState: number): number {
    if (this.#bit(coder + CHOICE) === 0) return MIN_MATCH + this.#tree(coder + LOW + (posState << 3), 3);
    if (this.#bit(coder + CHOICE2) === 0) {
      return MIN_MATCH + LOW_LENGTHS + this.#tree(coder + MID + (posState << 3), 3);
    }
    return MIN_MATCH + LOW_LENGTHS + MID_LENGTHS + this.#tree(coder + HIGH, 8);
  }

  #distance(length: number): number {
    const lengthState = Math.min(length - MIN_MATCH, LEN_TO_POS_STATES - 1);
    const slot = this.#tree(POS_SLOT + (lengthState << 6), 6);
    if (slot < 4) return slot;
    const directBits = (slot >>> 1) - 1;
    const start = ((2 | (slot & 1)) << directBits) >>> 0;
    if (slot < END_POS_MODEL) return start + this.#reverseTree(POS_SPECIAL + start - slot, directBits);
    let direct = 0;
    for (let i = directBits - ALIGN_BITS; i > 0; i--) {
      this.normalize();
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit === 1) this.#code -= this.#range;
      direct = direct * 2 + bit;
    }
    return start + direct * (1 << ALIGN_BITS) + this.#reverseTree(POS_ALIGN, ALIGN_BITS);
  }
}
