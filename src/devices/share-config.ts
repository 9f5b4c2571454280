/** What is asked of a shared folder, in the words of the command line and of the library. */
import { TsvmError } from '../errors.js';
import { CHOICE, checkRequestConfig, isPath } from './request-config.js';

export interface ShareConfig {
  /** A folder of the host's. */
  readonly path: string;
  /** The name that the guest mounts it by, 1 to 36 bytes: `mount -t virtiofs TAG /mnt`. */
  readonly tag: string;
  /** The guest can change nothing. Default false. */
  readonly readOnly?: boolean;
  /**
   * The guest may use extended attributes of the user namespace (xattr(7)). Default false: then its kernel does not ask for one
   * whenever it writes.
   */
  readonly xattr?: boolean;
}

export const SHARE_ARGUMENT = 'PATH:TAG[,ro][,xattr]';
/** virtio 1.3, 5.11.4. */
export const TAG_BYTES = 36;

/** @throws TsvmError `TSVM_USAGE`, naming the part that is wrong. */
export function parseShare(text: string): ShareConfig {
  const [place = '', ...options] = text.split(',');
  const colon = place.lastIndexOf(':');
  const [path, tag] = colon < 0 ? [place, ''] : [place.slice(0, colon), place.slice(colon + 1)];
  const wrong = (message: string): TsvmError =>
    new TsvmError('TSVM_USAGE', message, {
      hint: `give --share ${SHARE_ARGUMENT}, for example: --share ${path || 'src'}:src,ro`,
    });
  if (path === '') throw wrong('--share needs a path');
  if (!isTag(tag))
    throw wrong(`--share ${path}: the tag '${tag}' is not 1 to ${TAG_BYTES} printable ASCII characters`);
  const unknown = options.find((option) => option !== 'ro' && option !== 'xattr');
  if (unknown !== undefined) throw wrong(`--share ${path}: unknown option '${unknown}'`);
  return { path, tag, readOnly: options.includes('ro'), xattr: options.includes('xattr') };
}

/** Nothing that a mount command or a kernel's command line would read as more than a name. */
export function isTag(tag: unknown): tag is string {
  return typeof tag === 'string' && /^[\x21-\x2b\x2d-\x7e]{1,36}$/.test(tag);
}

/** A copy of a configuration that comes as data. @throws TsvmError `TSVM_CONFIG`, naming the field. */
export function checkShareConfig(config: unknown): ShareConfig {
  return checkRequestConfig<ShareConfig>('fs', config, {
    path: ['a path', isPath],
    tag: [`1 to ${TAG_BYTES} printable ASCII characters`, isTag],
    readOnly: CHOICE,
    xattr: CHOICE,
  });
}
