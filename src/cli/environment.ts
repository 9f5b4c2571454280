/** `--env`. */
import { TsvmError } from '../errors.js';

/** Variable that the operator typed: with its value, or one to be taken from this process. */
export type TypedVariable =
  | { readonly name: string; readonly value: string }
  | { readonly name: string; readonly inherit: true };

/**
 * Reads `NAME=VALUE` and `NAME`, the grammar of the command line. Nothing but what the operator typed may come here: a bare name
 * would hand a variable of the host's to whoever wrote it.
 *
 * @throws TsvmError `TSVM_USAGE`
 */
export function parseVariables(typed: readonly string[]): TypedVariable[] {
  return typed.map((text) => {
    const at = text.indexOf('=');
    const name = at < 0 ? text : text.slice(0, at);
    if (name === '')
      throw new TsvmError('TSVM_USAGE', `--env ${text}: the name is missing`, { hint: '--env NAME=VALUE' });
    return at < 0 ? { name, inherit: true } : { name, value: text.slice(at + 1) };
  });
}

/** Environment of a command. A variable that is to be inherited and does not exist is left out. */
export function environment(
  variables: readonly TypedVariable[],
  own: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  return Object.fromEntries(
    variables.flatMap((variable) => {
      const value = 'value' in variable ? variable.value : own[variable.name];
      return value === undefined ? [] : [[variable.name, value]];
    }),
  );
}
