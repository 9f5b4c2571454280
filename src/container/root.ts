/** The container's root: an overlay of its layers, in a file system that is gone with the last process that sees it. */
import { join } from 'node:path';
import { AT_FDCWD, CLONE, MNT_DETACH, MOUNT_ATTR, MS, O, SYS } from './linux.js';
import type { Slot, Step } from './plan.js';
import type { Slots } from './steps.js';
import { bind, call, close, makeDirectory, makeMountsPrivate, mountFs, restrict } from './steps.js';

export interface RootPlace {
  /** An empty directory of the host's that is covered in the container's view of it: nothing has to be made or removed. */
  readonly place: string;
  readonly layers: readonly string[];
  /** The one layer is a copy, which is the root as it is. */
  readonly copied?: boolean;
  /** Directory that keeps what is changed. It is entered before a mount namespace is made, since it may be a link of /proc to a descriptor. */
  readonly upper?: string;
  /** Bound of the container's memory, of which files may take half: beyond that a write fails, before the kernel kills. Default: the host's. */
  readonly memoryBytes?: number | undefined;
  /** Whose mount it is: the superuser's overlays have their marks in trusted.*, others' in user.* attributes. */
  readonly ownAttributes: boolean;
}

/**
 * Mounts the root. Layers are named by links: the options of a mount are one page, and paths may hold its separators.
 *
 * @param apart - a mount namespace has to be made first
 */
export function mountRoot(
  { place, layers, copied, upper, memoryBytes, ownAttributes }: RootPlace,
  ownMounts: boolean,
): Step[] {
  const links = layers.map((layer, i): readonly [string, string] => [layer, i.toString(36)]);
  const names = links.map(([, name]) => name).reverse();
  const kept = upper === undefined ? '.' : 'kept';
  const options = [
    `lowerdir=${names.join(':')}`,
    `upperdir=${kept}/upper`,
    `workdir=${kept}/work`,
    ...(ownAttributes ? ['userxattr'] : []),
  ];
  const room = memoryBytes === undefined ? '' : `,size=${Math.floor(memoryBytes / 2)}`;
  const link = ([path, name]: readonly [string, string]): Step =>
    call(`name ${path}`, SYS.symlink, [path, name]);
  const base = [
    ...(upper === undefined ? [] : [call(`enter ${upper}`, SYS.chdir, [upper])]),
    ...(ownMounts ? [call('make a mount namespace', SYS.unshare, [CLONE.NEWNS])] : []),
    makeMountsPrivate(),
    mountFs('tmpfs', place, MS.NOSUID | MS.NODEV, `mode=755${room}`),
  ];
  const [copy = ''] = layers;
  if (copied === true) return [...base, makeDirectory(join(place, 'root')), bind(copy, join(place, 'root'))];
  return [
    ...base,
    ...(upper === undefined ? [] : [makeDirectory(join(place, 'kept')), bind('.', join(place, 'kept'))]),
    call(`enter ${place}`, SYS.chdir, [place]),
    ...links.map(link),
    makeDirectory(`${kept}/upper`),
    makeDirectory(`${kept}/work`),
    makeDirectory('root'),
    call(`mount an overlay of ${layers.join(', ')}`, SYS.mount, [
      'overlay',
      'root',
      'overlay',
      MS.NODEV,
      options.join(','),
    ]),
    call('leave the overlay', SYS.chdir, ['/']),
  ];
}

/** Makes it the root, open in `root`. The host's is gone then: nothing of an image is looked at before. */
export function enterRoot(place: string, root: Slot, slots: Slots): Step[] {
  const path = join(place, 'root');
  const host = slots.take();
  const directory = O.DIRECTORY | O.CLOEXEC;
  return [
    call('open the root of the host', SYS.openat, [AT_FDCWD, '/', directory], { into: host }),
    // A mount that came from another user namespace cannot become a root; what is bound over it can.
    bind(path, path),
    call('open the root', SYS.openat, [AT_FDCWD, path, O.PATH | directory], { into: root }),
    restrict('restrict the root', root, MOUNT_ATTR.NODEV),
    call('enter the root', SYS.fchdir, [root]),
    call('change the root', SYS.pivot_root, ['.', '.']),
    call('enter the root of the host', SYS.fchdir, [host]),
    call('unmount the root of the host', SYS.umount2, ['.', MNT_DETACH]),
    close(host),
    call('enter the new root', SYS.fchdir, [root]),
  ];
}
