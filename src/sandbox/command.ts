/** Command of a sandbox as it is asked for, and the agent's form of it. */
import type { AgentCommand } from '../agent/command.js';
import { printable } from '../util/printable.js';
import { shellQuote } from '../util/shell-quote.js';
import type { CallOptions } from './call.js';

/** Program and arguments, or a text for the sandbox's `/bin/sh -c`. */
export type CommandWords = string | readonly string[];

/** User of a command, resolved. */
export interface CommandUser {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
  readonly home: string;
}

/** Surroundings of a command that asks for none. */
export interface CommandDefaults {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: CommandUser;
}

/** Options of a command. */
export interface CommandOptions extends CallOptions {
  /** Variables besides those of the sandbox; the same names replace them. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Working directory. Default: the sandbox's. */
  readonly cwd?: string | undefined;
  /** `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; names are those of the sandbox's own /etc/passwd and /etc/group. Default: the sandbox's. */
  readonly user?: string | number | undefined;
}

/** Size of a terminal. */
export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

/** Characters of a command that a message has. */
const SHOWN_CHARACTERS = 60;

/** Command as a message shows it: on one line, without anything that a terminal would obey. */
export function shownCommand(words: CommandWords): string {
  const text = typeof words === 'string' ? printable(words) : words.map(shellQuote).join(' ');
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text;
}

/** Makes the agent's form of a command, which the agent's client checks. */
export function agentCommand(
  words: CommandWords,
  { env = {}, cwd }: CommandOptions,
  defaults: CommandDefaults,
  user: CommandUser,
  tty: boolean | TerminalSize = false,
): AgentCommand {
  const { home, ...ids } = user;
  const argv = typeof words === 'string' ? ['/bin/sh', '-c', words] : words;
  return {
    argv,
    env: { ...defaults.env, HOME: home, ...(tty === false ? {} : { TERM: 'xterm' }), ...env },
    cwd: cwd ?? defaults.cwd,
    user: ids,
    ...(tty === false
      ? {}
      : { tty: true, ...(tty === true ? {} : { rows: tty.rows, columns: tty.columns }) }),
  };
}
