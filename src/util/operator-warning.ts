/** Warnings for the operator, which stop nothing. The command line prints them as its own lines. */

export function warnOperator(text: string): void {
  process.emitWarning(text, 'TsvmWarning');
}
