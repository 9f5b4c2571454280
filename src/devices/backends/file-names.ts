/**
 * Names as FUSE has them, any bytes, as texts and back. A byte that is no part of UTF-8 becomes half of a surrogate pair, U+DC80 to
 * U+DCFF, as Python does it (PEP 383): whoever reads names has texts, and none is lost.
 */
import { isUtf8 } from 'node:buffer';

const ESCAPE = 0xdc00;
const ESCAPED = /[\udc80-\udcff]/;

export function decodeName(bytes: Uint8Array): string {
  return isUtf8(bytes) ? new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes) : decodeEscaping(bytes);
}

function decodeEscaping(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = characterBytes(bytes, at);
    text +=
      length === 0
        ? String.fromCharCode(ESCAPE | (bytes[at] as number))
        : Buffer.from(bytes.subarray(at, at + length)).toString();
    at += Math.max(length, 1);
  }
  return text;
}

/** The length of the character at `at`, 0 if there is none. */
function characterBytes(bytes: Uint8Array, at: number): number {
  for (let length = 1; length <= 4 && at + length <= bytes.length; length++) {
    if (isUtf8(bytes.subarray(at, at + length))) return length;
  }
  return 0;
}

export function encodeName(name: string): Uint8Array {
  if (!ESCAPED.test(name)) return new TextEncoder().encode(name);
  return Buffer.concat(
    Array.from(name, (character) => {
      const code = character.codePointAt(0) as number;
      return code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code - ESCAPE) : Buffer.from(character);
    }),
  );
}
