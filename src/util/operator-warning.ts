/** Warnings for the operator, which stop nothing. The command line prints them as its own lines. */

/** @param detail - of a fault, for whoever mends it; the command line leaves it out */
export function warnOperator(text: string, detail?: string): void {
  process.emitWarning(text, { type: 'TsvmWarning', ...(detail === undefined ? {} : { detail }) });
}
