/** The options by which the operator lets a saved machine have something of the host: one for each kind of device that can ask for it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { SlotBindings } from '../../control/pool-request.js';
import { type HostUse, mapPaths } from '../../devices/host-slot.js';
import { deviceKinds } from '../../devices/registry.js';
import { TsvmError } from '../../errors.js';
import type { BindingOptions } from '../../machine/bindings.js';
import { shellQuote } from '../../util/shell-quote.js';
import { collect, type DeviceOptions } from './device-options.js';

/** Kinds that can ask for something, each with its option. */
function* binders(): Generator<{ readonly cliFlag: string; readonly hostUse: HostUse }> {
  for (const { cliFlag, hostUse } of Object.values(deviceKinds))
    if (cliFlag !== undefined && hostUse !== undefined) yield { cliFlag, hostUse };
}

/** Adds the options to a command. */
export function addBindingOptions(command: Command): Command {
  for (const { cliFlag, hostUse } of binders())
    command.option(
      `--${cliFlag} <spec>`,
      `what it gets as --${cliFlag}; repeatable: ${hostUse.cliArgument}`,
      collect,
    );
  return command;
}

/** Reads the options: bindings by the names of slots, with absolute paths. @throws TsvmError `TSVM_USAGE`, naming the part that is wrong. */
export function deviceBindings(options: DeviceOptions): SlotBindings {
  const bindings = [...binders()].flatMap(({ cliFlag, hostUse }) =>
    ((options[cliFlag] ?? []) as readonly string[])
      .flatMap((text) => hostUse.fromCli(text))
      .map(({ slot, binding }) => ({ slot, binding: mapPaths(hostUse, binding, (path) => resolve(path)) })),
  );
  const twice = bindings.find(({ slot }, i) => bindings.findIndex((other) => other.slot === slot) < i);
  if (twice !== undefined)
    throw new TsvmError('TSVM_USAGE', `${twice.slot} is named twice`, { hint: 'name each once' });
  return Object.fromEntries(bindings.map(({ slot, binding }) => [slot, binding]));
}

/** Says what is bound, before the machine runs. */
export function sayBound(slot: string, text: string): void {
  process.stderr.write(`tsvm: ${slot}: ${text}\n`);
}

/**
 * The error of a restore, and, if something that the saved machine asks for was not named, this process's command line with all of it, as
 * hint: to be read, and typed again.
 */
export async function withCommandLine(
  error: unknown,
  directory: string,
  options: BindingOptions,
): Promise<unknown> {
  if (!(error instanceof TsvmError)) return error;
  const granted = await missingOptions(directory, options);
  if (granted === undefined) return error;
  const words = process.argv.slice(2).map(shellQuote);
  const end = words.indexOf('--');
  words.splice(end < 0 ? words.length : end, 0, granted);
  return new TsvmError(error.code, error.message, {
    hint: `if it may have all of that: tsvm ${words.join(' ')}`,
    cause: error,
  });
}

/** Options that grant what was not named; undefined if nothing was missing. They load what a restore loads, so only after one failed. */
async function missingOptions(directory: string, options: BindingOptions): Promise<string | undefined> {
  const [{ openSavedMachine }, { optionsFor }] = await Promise.all([
    import('../../machine/restore.js'),
    import('../../machine/bindings.js'),
  ]);
  try {
    await using saved = await openSavedMachine(directory);
    const wishes = await saved.wishes(options);
    return wishes.length === 0 ? undefined : optionsFor(wishes);
  } catch {
    return undefined; // What is wrong with it has been said.
  }
}
