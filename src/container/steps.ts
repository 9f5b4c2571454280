/** Small runs of system calls that the plans of containers are made of. */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  ERRNO,
  FSCONFIG,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  MOVE_MOUNT,
  MS,
  O,
  OPEN_TREE_CLONE,
  SYS,
} from './linux.js';
import { type Argument, Data, InnerPath, SLOTS, Slot, STEP_PATH, type Step } from './plan.js';

type CallOptions = Pick<Step, 'into' | 'ignore' | 'when'>;

export function call(
  purpose: string,
  number: number,
  args: readonly Argument[],
  options: CallOptions = {},
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

export function close(slot: Slot): Step {
  return call('close a file', SYS.close, [slot]);
}

/** Flags of {@link pathIn}: kvm-addon/launcher/launcher.h. */
export const PATH = {
  /** Make what is missing: directories, and at the end a directory or a file. */
  MAKE: 1,
  /** Refuse what is no directory. */
  DIRECTORY: 2,
  /** Refuse a directory. */
  FILE: 4,
  /** Refuse links; without this they are followed, below the root. */
  NO_LINKS: 8,
  /** Refuse the root, and what lies in what is kept. */
  OUTSIDE: 16,
} as const;

/** Places in the container where nothing is made for an image or a user; `proc` is the container's own /proc. */
export interface Kept {
  readonly proc: Slot;
  readonly paths: readonly string[];
}

/** Opens a path in the container, below the directory in `root`, for its descriptor alone. No link leads out of that directory. */
export function pathIn(
  purpose: string,
  root: Slot,
  path: string,
  flags: number,
  { kept, ...options }: CallOptions & { readonly kept?: Kept } = {},
): Step {
  const rules = kept === undefined ? [] : [kept.proc, keptList(kept.paths)];
  return call(purpose, STEP_PATH, [root, new InnerPath(path), flags, ...rules], options);
}

/** Strings one after the other, the last an empty one. */
function keptList(paths: readonly string[]): Data {
  return new Data(Buffer.from(`${paths.map((path) => `${path}\0`).join('')}\0`, 'utf8'));
}

/** Makes a directory of the host's. */
export function makeDirectory(path: string, mode = 0o755): Step {
  return call(`make the directory ${path}`, SYS.mkdir, [path, mode], { ignore: [ERRNO.EEXIST] });
}

/** Binds a file or directory of the host's where another of the host's is. */
export function bind(from: string, path: string): Step {
  return call(`bind ${from} to ${path}`, SYS.mount, [from, path, 0, MS.BIND | MS.REC, 0]);
}

/** Mounts a file system over a directory of the host's. */
export function mountFs(type: string, path: string, flags: number, options = ''): Step {
  return call(`mount ${type} at ${path}`, SYS.mount, [type, path, type, flags, options]);
}

/** Makes a mount of a file system's that is nowhere yet, to be put somewhere: {@link putTree}. */
export function makeFs(
  type: string,
  context: Slot,
  into: Slot,
  attributes: number,
  options: Readonly<Record<string, string>> = {},
  ignore: readonly number[] = [],
): Step[] {
  const purpose = `mount ${type}`;
  return [
    call(purpose, SYS.fsopen, [type, FSOPEN_CLOEXEC], { into: context, ignore }),
    ...Object.entries(options).map(([key, value]) =>
      call(purpose, SYS.fsconfig, [context, FSCONFIG.SET_STRING, key, value, 0]),
    ),
    call(purpose, SYS.fsconfig, [context, FSCONFIG.CMD_CREATE, 0, 0, 0], { ignore }),
    call(purpose, SYS.fsmount, [context, FSMOUNT_CLOEXEC, attributes], { into, ignore }),
    close(context),
  ];
}

/** Takes a file or directory of the host's, with what is mounted below it, to be put somewhere later: {@link putTree}. */
export function takeTree(path: string, slot: Slot): Step {
  return call(`open ${path}`, SYS.open_tree, [AT_FDCWD, path, OPEN_TREE_CLONE | O.CLOEXEC | AT_RECURSIVE], {
    into: slot,
  });
}

/** Takes what is open in `from` once more, with what is mounted below it, where there is something open in `when`. */
export function copyTree(purpose: string, from: Slot, into: Slot, when: Slot): Step {
  return copy(purpose, from, into, when, AT_RECURSIVE);
}

/** Takes the same without what is mounted below it. */
export function copyAlone(purpose: string, from: Slot, into: Slot, when: Slot): Step {
  return copy(purpose, from, into, when, 0);
}

function copy(purpose: string, from: Slot, into: Slot, when: Slot, flags: number): Step {
  const args = [from, '', OPEN_TREE_CLONE | O.CLOEXEC | AT_EMPTY_PATH | flags];
  return call(purpose, SYS.open_tree, args, { into, when });
}

/** Mounts a tree on what is open in `at`; the tree's slot is then what is mounted there. */
export function putTree(purpose: string, tree: Slot, at: Slot): Step {
  const flags = MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH;
  return call(purpose, SYS.move_mount, [tree, '', at, '', flags]);
}

/** Adds attributes to a mount that is open, and to those below it; what it must not lose stays as it is. */
export function restrict(purpose: string, tree: Slot, attributes: number): Step {
  return setAttributes(purpose, tree, attributes, AT_RECURSIVE);
}

/** Adds attributes to one mount alone. */
export function restrictAlone(purpose: string, tree: Slot, attributes: number): Step {
  return setAttributes(purpose, tree, attributes, 0);
}

function setAttributes(purpose: string, tree: Slot, attributes: number, flags: number): Step {
  const args = [tree, '', AT_EMPTY_PATH | flags, mountAttributes(attributes), MOUNT_ATTR_BYTES];
  return call(purpose, SYS.mount_setattr, args);
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
