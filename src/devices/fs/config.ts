/** Configuration of a shared folder, in the words of the command line and of the library. */
import { TsvmError } from '../../errors.js';
import { CHOICE, checkRequestConfig, isPath } from '../config-fields.js';
import { type HostUse, withoutCommas } from '../host-slot.js';
import type { HostPath } from '../kind.js';

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
  return { path, tag, ...parseRights(path, options, wrong) };
}

function parseRights(
  path: string,
  options: readonly string[],
  wrong: (message: string) => TsvmError,
): Required<Pick<ShareConfig, 'readOnly' | 'xattr'>> {
  const unknown = options.find((option) => option !== 'ro' && option !== 'xattr');
  if (unknown !== undefined) throw wrong(`--share ${path}: unknown option '${unknown}'`);
  return { readOnly: options.includes('ro'), xattr: options.includes('xattr') };
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

/** Folder of a configuration. @throws TsvmError `TSVM_CONFIG` */
export function sharePaths(config: unknown): HostPath[] {
  const { path, readOnly } = checkShareConfig(config);
  return [{ path, type: 'folder', isWritten: readOnly !== true }];
}

/** A folder of the host's, and what may be done in it: no more than both the saved configuration and the operator say. */
export const shareHostUse: HostUse = {
  cliArgument: 'TAG=PATH[,ro][,xattr]',
  ownFolder: true,
  pathFields: ['path'],
  slots(config) {
    const { tag, ...wish } = checkShareConfig(config);
    return [{ name: `share ${tag}`, key: tag, wish }];
  },
  bind(config, slot, binding) {
    const saved = checkShareConfig(config);
    const given = checkShareConfig({ tag: saved.tag, ...(binding as object) });
    if (given.tag !== saved.tag)
      throw new TsvmError('TSVM_CONFIG', `${slot}: its tag is what the guest knows it by, and stays`);
    return {
      path: given.path,
      tag: saved.tag,
      readOnly: saved.readOnly === true || given.readOnly === true,
      xattr: saved.xattr === true && given.xattr === true,
    };
  },
  describe({ path, readOnly, xattr }, show) {
    const rights = readOnly === true ? 'to read' : 'to read and write';
    return `the folder ${show(String(path))}, ${rights}${xattr === true ? ', and its extended attributes' : ''}`;
  },
  toCli({ key }, { path, readOnly, xattr }) {
    if (!withoutCommas([path]) || key.includes('=')) return undefined;
    return `${key}=${path}${readOnly === true ? ',ro' : ''}${xattr === true ? ',xattr' : ''}`;
  },
  fromCli(text) {
    const wrong = (message: string): TsvmError =>
      new TsvmError('TSVM_USAGE', message, { hint: 'for example: --share src=./src,ro' });
    const [place = '', ...options] = text.split(',');
    const equals = place.indexOf('=');
    const [tag, path] = [place.slice(0, Math.max(equals, 0)), place.slice(equals + 1)];
    if (!isTag(tag)) throw wrong(`--share ${text}: it does not say which of the saved machine's, TAG=PATH`);
    if (path === '') throw wrong(`--share ${tag} needs a path`);
    return [{ slot: `share ${tag}`, binding: { path, ...parseRights(path, options, wrong) } }];
  },
};
