/** Text for people at a terminal, which obeys what it is told: names of files, and words of guests, snapshots and records, may be anything. */

/** What a terminal obeys (control characters of both sets), and what turns the order of a line round (Unicode's bidirectional formatting). */
const OBEYED = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/** One line of text; what a terminal would obey is shown as JSON has it. */
export function printable(text: string): string {
  return text.replace(OBEYED, (character) =>
    JSON.stringify(character).length > 3
      ? JSON.stringify(character).slice(1, -1)
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Several lines, such as a report. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** Says it on stderr. */
export function complain(text: string): void {
  process.stderr.write(`${printableLines(text)}\n`);
}
