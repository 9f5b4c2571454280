/** Warnings for the operator, which stop nothing. The command line prints them as its own lines. */

const TYPE = 'TsvmWarning';

/** @param detail - of a fault, for whoever mends it; the command line leaves it out */
export function warnOperator(text: string, detail?: string): void {
  if (detail === undefined) process.emitWarning(text, TYPE);
  else process.emitWarning(text, { type: TYPE, detail });
}
