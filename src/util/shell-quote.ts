/** Quotes a word for a POSIX shell with `$'...'` (bash, dash of today, busybox), on one line and without anything a terminal would obey. */
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

/** Control and format characters, lone surrogates, and line separators: what moves a cursor or hides a part of a line. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u;
