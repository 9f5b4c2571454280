/** `--env`. */
import { TsvmError } from '../errors.js';

/** What `-e NAME=VALUE` and `-e NAME` say; the latter is this process's, if it has it. */
export function environment(assignments: readonly string[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const text of assignments) {
    const at = text.indexOf('=');
    const name = at < 0 ? text : text.slice(0, at);
    if (name === '')
      throw new TsvmError('TSVM_USAGE', `--env ${text}: the name is missing`, { hint: '--env NAME=VALUE' });
    const value = at < 0 ? process.env[name] : text.slice(at + 1);
    if (value !== undefined) env[name] = value;
  }
  return env;
}
