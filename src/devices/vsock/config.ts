/** Configuration of a vsock, by a library's user, on the command line, and in a snapshot. */
import { TsvmError } from '../../errors.js';
import { optional } from '../../util/fields.js';
import { CID_RANGE, DEFAULT_CID, isGuestCid } from '../backends/vsock.js';
import { checkRequestConfig, isPath } from '../config-fields.js';
import { type HostUse, refuseOther } from '../host-slot.js';
import type { HostPath } from '../kind.js';

/** Argument of `vsock()`. */
export interface VsockConfig {
  /** Of the host's Unix sockets. Without one, connections are made with `machine.vsock` only. */
  readonly path?: string;
  /** The guest's context ID, 3 to 2^32 - 2. Default 3. */
  readonly cid?: number;
}

/** @throws TsvmError `TSVM_USAGE` */
export function parseVsock(text: string): VsockConfig {
  const [path = '', ...options] = text.split(',');
  const usage = { hint: 'give --vsock PATH[,cid=N], for example: --vsock /tmp/vm.sock,cid=3' };
  if (path === '') throw new TsvmError('TSVM_USAGE', '--vsock needs a path', usage);
  let cid = DEFAULT_CID;
  for (const option of options) {
    if (!option.startsWith('cid=')) {
      throw new TsvmError('TSVM_USAGE', `--vsock ${path}: unknown option '${option}'`, usage);
    }
    const number = option.slice('cid='.length);
    cid = /^\d+$/.test(number) ? Number(number) : Number.NaN;
    if (!isGuestCid(cid)) {
      throw new TsvmError('TSVM_USAGE', `--vsock ${path}: cid '${number}' is not ${CID_RANGE}`, usage);
    }
  }
  return { path, cid };
}

/** @throws TsvmError `TSVM_CONFIG`, naming the field. */
export function checkVsockConfig(config: unknown): VsockConfig {
  return checkRequestConfig<VsockConfig>('vsock', config, {
    path: optional(['a path', isPath]),
    cid: optional([CID_RANGE, isGuestCid]),
  });
}

/** Socket of a configuration. @throws TsvmError `TSVM_CONFIG` */
export function vsockPaths(config: unknown): HostPath[] {
  const { path } = checkVsockConfig(config);
  return path === undefined ? [] : [{ path, type: 'socket', isWritten: true }];
}

/** Unix sockets of the host's: one that is made, and those beside it that the guest connects to. */
export const vsockHostUse: HostUse = {
  cliArgument: 'PATH',
  ownFolder: false,
  pathFields: ['path'],
  slots(config) {
    const { path } = checkVsockConfig(config);
    return [{ name: 'vsock', key: '', ...(path === undefined ? {} : { wish: { path } }) }];
  },
  bind(config, slot, binding) {
    const saved = checkVsockConfig(config);
    const given = checkVsockConfig(binding);
    refuseOther(slot, { cid: DEFAULT_CID, ...saved }, given, ['path']);
    const { path } = given;
    if (path === undefined) throw new TsvmError('TSVM_CONFIG', `${slot}: it needs a path`);
    return { ...saved, path };
  },
  describe: ({ path }, show) =>
    `the socket ${show(String(path))} and those beside it, ${show(`${path}_PORT`)}`,
  toCli: (_slot, { path }) => String(path),
  fromCli(path) {
    if (!isPath(path)) throw new TsvmError('TSVM_USAGE', '--vsock needs a path');
    return [{ slot: 'vsock', binding: { path } }];
  },
};
