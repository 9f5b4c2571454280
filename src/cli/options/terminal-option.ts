/** The terminal that a command gets: `-t`, or as this process has one. */
import type { ContainerConfig } from '../../container/config.js';

/** Tells whether this process has a terminal that it reads from and writes to. */
export function isOnTerminal(): boolean {
  return process.stdin.isTTY === true && process.stdout.isTTY === true;
}

/** The size of a terminal for the command, if it is to get one. */
export function terminalFor(tty: boolean | undefined): ContainerConfig['terminal'] {
  if (!(tty ?? isOnTerminal())) return undefined;
  const { stdout } = process;
  return { rows: stdout.rows ?? 24, columns: stdout.columns ?? 80 };
}
