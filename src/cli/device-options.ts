/** The options by which devices are asked for: one for each kind that has a flag. */
import type { Command } from 'commander';
import { type DeviceRequest, deviceKinds } from '../devices/registry.js';
import { TsvmError } from '../errors.js';

/** Values that commander makes of them: a list, a text or a switch for each flag. */
export type DeviceOptions = Readonly<Record<string, unknown>>;

/** Adds them. */
export function addDeviceOptions(command: Command): Command {
  for (const { cliFlag, cliArgument, cliRepeatable, summary } of Object.values(deviceKinds)) {
    if (cliFlag === undefined) continue;
    if (cliArgument === '') command.option(`--${cliFlag}`, summary);
    else if (cliRepeatable === true)
      command.option(`--${cliFlag} <spec>`, `${summary}; repeatable: ${cliArgument}`, collect);
    else command.option(`--${cliFlag} <spec>`, `${summary}: ${cliArgument}`, once(`--${cliFlag}`));
  }
  return command;
}

/** Reads an option that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** Makes the reader of an option for a thing that there is one of: of two, one would be dropped without a word. */
export function once(flag: string): (value: string, previous?: string) => string {
  return (value, previous) => {
    if (previous === undefined || previous === value) return value;
    throw new TsvmError('TSVM_USAGE', `${flag}: it is given twice, '${previous}' and '${value}'`, {
      hint: 'give it once',
    });
  };
}

/** @throws TsvmError `TSVM_USAGE`, naming the part that is wrong. */
export function deviceRequests(options: DeviceOptions): DeviceRequest[] {
  return Object.values(deviceKinds).flatMap(({ cliFlag, fromCli }) => {
    const value = cliFlag === undefined ? undefined : options[cliFlag];
    if (value === undefined) return [];
    if (value === true) return [fromCli('')];
    return [value].flat().map((text) => fromCli(String(text)));
  });
}
