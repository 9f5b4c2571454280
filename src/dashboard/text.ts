/** Pieces of text for a terminal of a given width. */
import { stripVTControlCharacters } from 'node:util';

const BARS = '▁▂▃▄▅▆▇█';

const ASCII: Readonly<Record<string, string>> = {
  ...Object.fromEntries([...BARS].map((bar, i) => [bar, '_.-:=+*#'[i] ?? '#'])),
  '░': '.',
  '━': '-',
  '▏': '|',
  '…': '~',
  '’': "'",
  '↑': '^',
  '↓': 'v',
  '←': '<',
  '→': '>',
};
const SIGNS = new RegExp(`[${Object.keys(ASCII).join('')}]`, 'gu');

/** The last `width` values as bars, `most` as high as there is. */
export function sparkline(values: readonly number[], width: number, most: number): string {
  const shown = values.slice(-width);
  const bars = shown.map((value) => {
    const level = most <= 0 ? 0 : Math.round((Math.min(value, most) / most) * (BARS.length - 1));
    return BARS[level] ?? ' ';
  });
  return bars.join('').padStart(width);
}

/** `950`, `1.2k`, `34M`. */
export function formatCount(value: number): string {
  if (value < 1000) return value > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value).toString();
  for (const [unit, size] of [
    ['k', 1e3],
    ['M', 1e6],
    ['G', 1e9],
  ] as const) {
    if (value < size * 999.5) return `${(value / size).toFixed(value < size * 9.95 ? 1 : 0)}${unit}`;
  }
  return '>999G';
}

/** What a guest said, without what would move a cursor or change a colour. */
export function plainLines(text: string): string[] {
  return stripVTControlCharacters(text)
    .split(/\r*\n/)
    .map((line) => (line.split('\r').at(-1) ?? '').replaceAll('\t', '        ').replace(/\p{Cc}/gu, ''));
}

/** Text for a terminal whose locale is not UTF-8: the dashboard's own signs as ASCII, column for column. */
export function toAscii(text: string): string {
  return text.replace(SIGNS, (sign) => ASCII[sign] ?? sign);
}

/** Tells whether text of a locale is in UTF-8: the first variable that is set decides (POSIX.1-2017, 8.2). */
export function isUtf8(environment: Readonly<Record<string, string | undefined>>): boolean {
  const { LC_ALL, LC_CTYPE, LANG } = environment;
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
}

/** How many columns a terminal gives it: Unicode's wide and full-width characters two, combining ones none (UAX 11, as wcwidth has it). */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text) {
    if (/\p{Mn}|\p{Me}|\p{Cf}/u.test(character)) continue;
    columns += isWide(character.codePointAt(0) ?? 0) ? 2 : 1;
  }
  return columns;
}

/** Exactly `width` columns of it: cut with an ellipsis, or filled up. */
export function toWidth(text: string, width: number): string {
  if (columnsOf(text) <= width) return text + ' '.repeat(width - columnsOf(text));
  let kept = '';
  let columns = 0;
  for (const character of text) {
    const next = columnsOf(character);
    if (columns + next > width - 1) break;
    kept += character;
    columns += next;
  }
  return `${kept}…${' '.repeat(Math.max(0, width - 1 - columns))}`;
}

function isWide(code: number): boolean {
  return (
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf && code !== 0x303f) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd)
  );
}
