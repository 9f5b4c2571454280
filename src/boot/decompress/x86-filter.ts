/**
 * Undoes xz's x86 branch filter: targets of CALL and JMP were made absolute, which compresses better
 * (lib/xz/xz_dec_bcj.c, `bcj_x86`, of which this is a transcription).
 */

const MASK_TO_ALLOWED = [true, true, true, false, true, false, false, false] as const;
const MASK_TO_BIT_NUMBER = [0, 1, 2, 2, 3, 3, 3, 3] as const;

/** Converts in place; `start` is the address that the filter assumed for the first byte. */
export function undoX86Filter(bytes: Uint8Array, start = 0): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let previous = -1;
  let mask = 0;
  for (let i = 0; i < bytes.length - 4; i++) {
    if (((bytes[i] as number) & 0xfe) !== 0xe8) continue;
    const distance = i - previous;
    previous = i;
    if (distance > 3) {
      mask = 0;
    } else {
      mask = (mask << (distance - 1)) & 7;
      if (mask !== 0) {
        const byte = bytes[i + 4 - (MASK_TO_BIT_NUMBER[mask] as number)] as number;
        if (MASK_TO_ALLOWED[mask] === false || isSignByte(byte)) {
          mask = (mask << 1) | 1;
          continue;
        }
      }
    }
    if (!isSignByte(bytes[i + 4] as number)) {
      mask = (mask << 1) | 1;
      continue;
    }
    let source = view.getUint32(i + 1, true);
    let target: number;
    for (;;) {
      target = (source - (start + i + 5)) >>> 0;
      if (mask === 0) break;
      const bits = (MASK_TO_BIT_NUMBER[mask] as number) * 8;
      if (!isSignByte((target >>> (24 - bits)) & 0xff)) break;
      source = (target ^ (2 ** (32 - bits) - 1)) >>> 0;
    }
    target &= 0x01ff_ffff;
    target |= -(target & 0x0100_0000);
    view.setUint32(i + 1, target >>> 0, true);
    i += 4;
  }
}

function isSignByte(byte: number): boolean {
  return byte === 0x00 || byte === 0xff;
}
