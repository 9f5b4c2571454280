/** Control and format characters, lone surrogates, and line separators: what moves a cursor or hides a part of a line. */
export const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u;

/** Text of another's that is fit for a line on a terminal: what a terminal would obey is shown as JSON has it. */
export function printable(text: string): string {
  return text.replace(new RegExp(UNPRINTABLE, 'gu'), (character) =>
    character
      .split('')
      .map((unit) => SHORT[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

/** Text of several lines, such as a report, line by line. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

const SHORT: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\b': '\\b',
  '\f': '\\f',
};
