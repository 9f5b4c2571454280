/** Small runs of system calls that the plans of containers are made of. */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  ERRNO,
  MOVE_MOUNT_F_EMPTY_PATH,
  MS,
  O,
  OPEN_TREE_CLONE,
  SYS,
} from './linux.js';
import { type Argument, Data, SLOTS, Slot, type Step } from './plan.js';

export function call(
  purpose: string,
  number: number,
  args: readonly Argument[],
  options: { readonly into?: Slot; readonly ignore?: readonly number[] } = {},
): Step {
  return { purpose, number, arguments: args, ...options };
}

/** Gives out the places where results are kept; one for each plan. */
export class Slots {
  #next = 0;

  take(): Slot {
    if (this.#next === SLOTS) throw new RangeError('the plan keeps more results than the launcher holds');
    return new Slot(this.#next++);
  }
}

export function makeDirectory(path: string, mode = 0o755): Step {
  return call(`make the directory ${path}`, SYS.mkdir, [path, mode], { ignore: [ERRNO.EEXIST] });
}

/** With those above it. */
export function makeDirectories(path: string): Step[] {
  const parts = path.split('/').filter((part) => part !== '');
  return parts.map((_, i) => makeDirectory(`/${parts.slice(0, i + 1).join('/')}`));
}

export function makeFile(path: string, slot: Slot): Step[] {
  const flags = O.WRONLY | O.CREAT | O.CLOEXEC;
  return [
    call(`make ${path}`, SYS.openat, [AT_FDCWD, path, flags, 0o644], { into: slot }),
    call(`make ${path}`, SYS.close, [slot]),
  ];
}

export function makeSymlink(to: string, path: string): Step {
  return call(`make ${path}`, SYS.symlink, [to, path], { ignore: [ERRNO.EEXIST] });
}

export function mountFs(
  type: string,
  path: string,
  flags: number,
  options = '',
  ignore: readonly number[] = [],
): Step {
  return call(`mount ${type} at ${path}`, SYS.mount, [type, path, type, flags, options], { ignore });
}

export function bind(from: string, path: string, ignore: readonly number[] = []): Step {
  return call(`bind ${from} to ${path}`, SYS.mount, [from, path, 0, MS.BIND | MS.REC, 0], { ignore });
}

/** Takes a file or directory of the host's, with what is mounted below it, to be put somewhere later: {@link putTree}. */
export function takeTree(path: string, slot: Slot): Step {
  const flags = OPEN_TREE_CLONE | O.CLOEXEC | AT_RECURSIVE;
  return call(`open ${path}`, SYS.open_tree, [AT_FDCWD, path, flags], { into: slot });
}

/** Mounts what {@link takeTree} took. A symbolic link at the end of `path` is not followed. */
export function putTree(slot: Slot, path: string, attributes: number): Step[] {
  return [
    call(`restrict ${path}`, SYS.mount_setattr, [
      slot,
      '',
      AT_EMPTY_PATH | AT_RECURSIVE,
      mountAttributes(attributes),
      MOUNT_ATTR_BYTES,
    ]),
    call(`mount ${path}`, SYS.move_mount, [slot, '', AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH]),
    call(`mount ${path}`, SYS.close, [slot]),
  ];
}

/** Adds attributes to a mount, and to those below it: what it must not lose stays as it is. */
export function restrict(path: string, attributes: number, ignore: readonly number[] = []): Step {
  return setAttributes(path, attributes, AT_RECURSIVE, ignore);
}

/** The same for one mount alone. */
export function restrictAlone(path: string, attributes: number): Step {
  return setAttributes(path, attributes, 0, []);
}

function setAttributes(path: string, attributes: number, flags: number, ignore: readonly number[]): Step {
  const args = [AT_FDCWD, path, flags, mountAttributes(attributes), MOUNT_ATTR_BYTES];
  return call(`restrict ${path}`, SYS.mount_setattr, args, { ignore });
}

/** Nothing that is mounted from here on is seen by whoever made this namespace. */
export function makeMountsPrivate(): Step {
  return call('make the mounts private', SYS.mount, [0, '/', 0, MS.REC | MS.PRIVATE, 0]);
}

const MOUNT_ATTR_BYTES = 32;

/** struct mount_attr: what is set, and nothing that is cleared. */
function mountAttributes(attributes: number): Data {
  const bytes = new Uint8Array(MOUNT_ATTR_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(attributes), true);
  return new Data(bytes);
}
