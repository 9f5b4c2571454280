/** The terminal that a command gets: `-t`, or as this process has one. */
import type { ContainerConfig } from '../../container/config.js';

/** The size of a terminal for the command, if it is to get one. */
export function terminalFor(tty: boolean | undefined): ContainerConfig['terminal'] {
  const { stdin, stdout } = process;
  if (!(tty ?? (stdin.isTTY === true && stdout.isTTY === true))) return undefined;
  return { rows: stdout.rows ?? 24, columns: stdout.columns ?? 80 };
}
