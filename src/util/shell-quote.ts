import { UNPRINTABLE } from './printable.js';

/** Quotes a word for a POSIX shell with `$'...'` (POSIX.1-2024: bash, zsh, busybox), on one line and without anything a terminal would obey. */
export function shellQuote(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (!UNPRINTABLE.test(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = word
    .replace(/[\\']/g, '\\$&')
    .replace(new RegExp(UNPRINTABLE, 'gu'), (character) =>
      [...Buffer.from(character)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
    );
  return `$'${escaped}'`;
}
