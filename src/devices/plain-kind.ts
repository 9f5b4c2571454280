/** Kinds of which nothing is configured: a switch on the command line, an empty object as data. */
import { TsvmError } from '../errors.js';
import { checkRequestConfig } from './config-fields.js';
import type { DeviceKind, DeviceRequest } from './kind.js';

export function plainKind(
  kind: string,
  words: Pick<DeviceKind, 'summary' | 'guestKconfig'>,
  request: () => DeviceRequest,
): DeviceKind {
  return {
    ...words,
    cliFlag: kind,
    cliArgument: '',
    fromCli(text) {
      if (text !== '') throw new TsvmError('TSVM_USAGE', `--${kind} takes no argument, not '${text}'`);
      return request();
    },
    fromConfig(config) {
      checkRequestConfig(kind, config, {});
      return request();
    },
    paths: () => [],
    hostUse: undefined,
  };
}
