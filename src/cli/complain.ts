import { printableLines } from '../util/printable.js';

/** Writes lines to stderr; what a terminal would obey is shown. */
export function complain(text: string): void {
  process.stderr.write(`${printableLines(text)}\n`);
}
