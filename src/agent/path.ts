/** Paths of the agent's file system: texts, or bytes where a name is no UTF-8. */
import { printable } from '../util/printable.js';

/** Path where the agent is; bytes stay as they are. */
export type AgentPath = string | Uint8Array;

/** Path as a message has it. */
export function shownPath(path: AgentPath): string {
  return printable(typeof path === 'string' ? path : Buffer.from(path).toString());
}
