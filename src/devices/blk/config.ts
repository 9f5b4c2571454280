/** Configuration of a disk, in the words of the command line and of the library. */
import { TsvmError } from '../../errors.js';
import { optional } from '../../util/fields.js';
import { CHOICE, checkRequestConfig, isPath } from '../config-fields.js';
import { type HostUse, numberedSlot, refuseOther, withoutCommas } from '../host-slot.js';
import type { HostPath } from '../kind.js';
import { keyAndValue } from '../option-text.js';
import { LIMIT_FIELDS, parseLimit, type RateLimit } from '../rate-limit.js';

/** Configuration of a disk. Limits are of bytes that are read and written, together, and of requests, flushes and discards among them. */
export interface BlkConfig extends RateLimit {
  /** A raw image, or a block device. */
  readonly path: string;
  readonly readOnly?: boolean;
  /**
   * A file that takes what is written, so that `path` stays as it is and may be the base of many. It is made if it is not there,
   * and of use only with the base that it was made of.
   */
  readonly overlay?: string;
  /**
   * Choice for a restored machine: what the guest writes goes to the disk itself (true), or is kept in memory and thrown away (false).
   * Default: as `RestoreOptions.disks` says.
   */
  readonly direct?: boolean;
  /** Queues, 1 to 16; a guest with several vCPUs uses as many as it has of these. Default 1. */
  readonly queues?: number;
  /** The disk's serial number as the guest sees it. */
  readonly id?: string;
}

/** virtio 1.3, 5.2.6: VIRTIO_BLK_T_GET_ID has room for 20 bytes. */
export const ID_BYTES = 20;
export const BLK_ARGUMENT =
  'PATH[,ro][,overlay=FILE][,id=NAME][,queues=N][,bps=RATE[/BURST]][,iops=RATE[/BURST]]';

const MAX_QUEUES = 16;
const isQueues = (queues: unknown): queues is number =>
  Number.isInteger(queues) && (queues as number) >= 1 && (queues as number) <= MAX_QUEUES;
const isId = (id: string): boolean => /^[\x21-\x7e]{1,20}$/.test(id);

/** @throws TsvmError `TSVM_USAGE`, naming the part that is wrong. */
export function parseBlk(text: string): BlkConfig {
  const [path = '', ...options] = text.split(',');
  const wrong = (message: string, example = `${path || 'root.img'},ro`): TsvmError =>
    new TsvmError('TSVM_USAGE', message, {
      hint: `give --disk ${BLK_ARGUMENT}, for example: --disk ${example}`,
    });
  if (path === '') throw wrong('--disk needs a path');
  const config: { -readonly [Key in keyof BlkConfig]: BlkConfig[Key] } = { path };
  for (const option of options) {
    const [key, value] = keyAndValue(option);
    if (option === 'ro') config.readOnly = true;
    else if (key === 'id') config.id = value;
    else if (key === 'overlay') {
      if (value === '') throw wrong(`--disk ${path}: overlay needs a path`, `${path},overlay=mine.overlay`);
      config.overlay = value;
    } else if (key === 'queues') {
      if (!/^\d+$/.test(value) || !isQueues(Number(value)))
        throw wrong(`--disk ${path}: queues '${value}' is not from 1 to ${MAX_QUEUES}`, `${path},queues=4`);
      config.queues = Number(value);
    } else if (key === 'bps' || key === 'iops') {
      const limit = parseLimit(key === 'bps' ? 'bytes' : 'ops', value);
      if (limit === undefined)
        throw wrong(
          `--disk ${path}: ${key} '${value}' is not a number a second`,
          `${path},bps=10M/64M,iops=500`,
        );
      Object.assign(config, limit);
    } else throw wrong(`--disk ${path}: unknown option '${option}'`);
  }
  return config;
}

/** @throws TsvmError `TSVM_CONFIG` */
export function checkId({ path, id }: BlkConfig): void {
  if (id === undefined || isId(id)) return;
  throw new TsvmError(
    'TSVM_CONFIG',
    `disk ${path}: the id '${id}' is not 1 to ${ID_BYTES} printable ASCII characters`,
  );
}

/** A copy of a configuration that comes as data. @throws TsvmError `TSVM_CONFIG`, naming the field. */
export function checkBlkConfig(config: unknown): BlkConfig {
  return checkRequestConfig<BlkConfig>('blk', config, {
    path: ['a path', isPath],
    overlay: optional(['a path', isPath]),
    queues: optional([`from 1 to ${MAX_QUEUES}`, isQueues]),
    readOnly: CHOICE,
    direct: CHOICE,
    id: optional([`1 to ${ID_BYTES} printable ASCII characters`, (id) => typeof id === 'string' && isId(id)]),
    ...LIMIT_FIELDS,
  });
}

/** Image and overlay of a configuration. @throws TsvmError `TSVM_CONFIG` */
export function blkPaths(config: unknown): HostPath[] {
  const { path, overlay, readOnly = false, direct = true } = checkBlkConfig(config);
  const isWritten = !readOnly && direct;
  if (overlay === undefined) return [{ path, type: 'file', isWritten }];
  return [
    { path, type: 'file', isWritten: false },
    { path: overlay, type: 'file', isWritten },
  ];
}

/** Files of the host's. Whether they are written to is not for a saved configuration to say: see `RestoreOptions.disks`. */
export const blkHostUse: HostUse = {
  cliArgument: 'N=PATH[,overlay=FILE][,direct]',
  ownFolder: true,
  pathFields: ['path', 'overlay'],
  slots(config, ordinal) {
    const { path, overlay, direct } = checkBlkConfig(config);
    const wish = overlay === undefined ? { path } : { path, overlay };
    const rights = direct === undefined ? {} : { direct };
    return [{ name: `disk ${ordinal}`, key: `${ordinal}`, wish, rights }];
  },
  bind(config, slot, binding) {
    const { direct: _, ...saved } = checkBlkConfig(config);
    const given = checkBlkConfig(binding);
    refuseOther(slot, saved, given, ['path', 'overlay', 'direct']);
    const { path, overlay, direct } = given;
    if ((overlay === undefined) !== (saved.overlay === undefined)) {
      const [why, hint] =
        overlay === undefined
          ? ['has an overlay, without which its contents are others', 'name it as well: overlay=FILE']
          : ['has no overlay', 'leave overlay out'];
      throw new TsvmError('TSVM_CONFIG', `${slot} ${why}`, { hint });
    }
    return {
      ...saved,
      path,
      ...(overlay === undefined ? {} : { overlay }),
      ...(direct === undefined ? {} : { direct }),
    };
  },
  describe({ path, overlay, direct }, show) {
    const over = overlay === undefined ? '' : ` with the overlay ${show(String(overlay))}`;
    return `the disk image ${show(String(path))}${over}${direct === true ? ', to be written to' : ''}`;
  },
  toCli({ key }, { path, overlay }) {
    if (!withoutCommas([path, overlay])) return undefined;
    return `${key}=${path}${overlay === undefined ? '' : `,overlay=${overlay}`}`;
  },
  fromCli(text) {
    const [ordinal, place] = numberedSlot('disk', text, '0=root.img');
    const options = place.split(',');
    const direct = options.includes('direct', 1);
    const binding = parseBlk(options.filter((option, i) => i === 0 || option !== 'direct').join(','));
    return [{ slot: `disk ${ordinal}`, binding: { ...binding, ...(direct ? { direct } : {}) } }];
  },
};
