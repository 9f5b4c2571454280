/** What a container sees besides its layers: /proc, /sys, /dev, volumes; and what it must not. */
import type { ContainerConfig, Namespace } from './config.js';
import { KERNEL_PATHS } from './config.js';
import { AT_FDCWD, ERRNO, MOUNT_ATTR, MOVE_MOUNT, SYS } from './linux.js';
import { maskedPaths, READ_ONLY_PATHS } from './masked-paths.js';
import type { Slot, Step } from './plan.js';
import {
  call,
  close,
  copyAlone,
  copyTree,
  type Kept,
  makeFs,
  PATH,
  pathIn,
  putTree,
  restrict,
  type Slots,
  takeTree,
} from './steps.js';

/** Devices of the host's that a container has. */
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'] as const;
/**
 * Attributes of the devices' mounts. They are the host's own nodes, whose owner is somebody in the container: mode, owner and times stay,
 * and they are written to as ever.
 */
const DEVICE_ATTRIBUTES = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC | MOUNT_ATTR.RDONLY;
/** Links in /dev: what they say, and their names. */
const LINKS = [
  ['/proc/self/fd', 'fd'],
  ['/proc/self/fd/0', 'stdin'],
  ['/proc/self/fd/1', 'stdout'],
  ['/proc/self/fd/2', 'stderr'],
  ['pts/ptmx', 'ptmx'],
] as const;

const { RDONLY, NOSUID, NODEV, NOEXEC } = MOUNT_ATTR;
const NO_PROGRAMS = NOSUID | NODEV | NOEXEC;
const RESTRICTED = NO_PROGRAMS | RDONLY;
/** Errors where the host's cgroups are hidden from this process as well. */
const NO_CGROUPS = [ERRNO.EPERM, ERRNO.EINVAL];
/** Errors of message queues in a shared namespace of IPC, or of a kernel without them. */
const NO_QUEUES = [ERRNO.EPERM, ERRNO.EINVAL];
const MAKE_DIRECTORY = PATH.MAKE | PATH.DIRECTORY;
const MAKE_FILE = PATH.MAKE | PATH.FILE;

export interface Mounts {
  /** Steps while the host's root is the root: they take what is of the host, and make what is the kernel's, as descriptors. */
  readonly before: Step[];
  /** Steps in the new root, which is all that there is by then. */
  readonly inside: Step[];
  /** Steps of the command's process, which has a terminal by then: they put it at /dev/console. */
  readonly console: Step[];
  /** Steps of process 1, when the command's has all that it needs. */
  readonly after: Step[];
  /** Places where nothing is made for a path that an image or a user names. */
  readonly kept: Kept;
  /** File system of the container's terminals. */
  readonly pts: Slot;
}

/** What there is on the host. */
export interface MountHost {
  /** Whether group 5, which owns terminals, exists in the container. */
  readonly terminalGroup: boolean;
  /** Whether the container's cgroup is one of version 2's. */
  readonly unified: boolean;
  isDirectory(path: string): boolean;
}

/** @param root - the container's root, once it is the root */
export function composeMounts(config: ContainerConfig, root: Slot, slots: Slots, host: MountHost): Mounts {
  const trees = new Trees(slots);
  const shares = (namespace: Namespace): boolean => config.share?.includes(namespace) === true;
  // Instances of their own, where the namespace that they show is the container's own. They are made while one that hides nothing is
  // to be seen, which is what the kernel asks.
  const proc = shares('pid') ? trees.take('/proc', NO_PROGRAMS) : trees.make('proc', NO_PROGRAMS);
  const sys = shares('net')
    ? trees.take('/sys', RESTRICTED)
    : trees.make('sysfs', config.privileged === true ? NO_PROGRAMS : RESTRICTED);
  const cgroups = host.unified ? trees.make('cgroup2', RESTRICTED, {}, NO_CGROUPS) : undefined;
  const dev = devices(config, trees, host.terminalGroup);
  const kept = { proc, paths: KERNEL_PATHS };
  const top = (tree: Slot, path: string): Step[] => [
    pathIn(`find a directory at ${path} of the image`, root, path, MAKE_DIRECTORY | PATH.NO_LINKS, {
      into: trees.at,
    }),
    ...trees.put(`mount ${path}`, tree),
  ];
  const inside = [
    ...top(proc, '/proc'),
    ...top(sys, '/sys'),
    ...(cgroups === undefined
      ? []
      : [
          pathIn('find /sys/fs/cgroup', sys, 'fs/cgroup', PATH.DIRECTORY, {
            into: trees.at,
            ignore: [ERRNO.ENOENT],
          }),
          ...trees.put('mount /sys/fs/cgroup', cgroups),
          close(cgroups),
        ]),
    ...top(dev.tree, '/dev'),
    ...dev.inside,
    ...(config.privileged === true ? [] : hide(trees, { '/proc': proc, '/sys': sys }, dev)),
    close(dev.nothing.file),
    close(dev.nothing.directory),
    close(sys),
    ...volumes(config, root, trees, kept, host),
  ];
  const { before } = trees;
  const after = [close(proc), close(dev.tree), close(dev.pts)];
  return { before, inside, after, kept, pts: dev.pts, console: dev.console };
}

/** Mounts on their way into the container: taken before, put inside. */
class Trees {
  readonly before: Step[] = [];
  /** Place of the next one. */
  readonly at: Slot;
  readonly #slots: Slots;
  readonly #context: Slot;

  constructor(slots: Slots) {
    this.#slots = slots;
    this.at = slots.take();
    this.#context = slots.take();
  }

  slot(): Slot {
    return this.#slots.take();
  }

  take(path: string, attributes: number): Slot {
    const tree = this.slot();
    this.before.push(takeTree(path, tree), restrict(`restrict ${path}`, tree, attributes));
    return tree;
  }

  make(
    type: string,
    attributes: number,
    options: Readonly<Record<string, string>> = {},
    ignore: readonly number[] = [],
  ): Slot {
    const tree = this.slot();
    this.before.push(...makeFs(type, this.#context, tree, attributes, options, ignore));
    return tree;
  }

  put(purpose: string, tree: Slot): Step[] {
    return [putTree(purpose, tree, this.at), close(this.at)];
  }
}

interface Devices {
  readonly tree: Slot;
  readonly pts: Slot;
  /** Covers of what is hidden: for a file, and for a directory. */
  readonly nothing: { readonly file: Slot; readonly directory: Slot };
  readonly inside: Step[];
  readonly console: Step[];
}

function devices(config: ContainerConfig, trees: Trees, terminalGroup: boolean): Devices {
  const noPrograms = NOSUID | NOEXEC;
  const privileged = config.privileged === true;
  // No node in it or anywhere else opens a device, whoever made it: only those that are bound here.
  const tree = privileged
    ? trees.take('/dev', noPrograms)
    : trees.make('tmpfs', NOSUID | NODEV, { mode: '755', size: '64k' });
  const nothing = { file: trees.slot(), directory: trees.slot() };
  const pts = trees.make('devpts', noPrograms, {
    ptmxmode: '0666',
    mode: '0620',
    ...(terminalGroup ? { gid: '5' } : {}),
  });
  const shm = trees.make('tmpfs', NO_PROGRAMS, { mode: '1777', size: '64m' });
  const put = (name: string, mount: Slot, flags: number): Step[] => [
    pathIn(`make /dev/${name}`, tree, name, flags, { into: trees.at }),
    ...trees.put(`mount /dev/${name}`, mount),
  ];
  const own = [
    pathIn('make /dev/pts', tree, 'pts', MAKE_DIRECTORY, { into: nothing.directory }),
    putTree('mount /dev/pts', pts, nothing.directory),
    ...put('shm', shm, MAKE_DIRECTORY),
    close(shm),
    pathIn('find /dev/null', tree, 'null', PATH.FILE, { into: nothing.file }),
  ];
  const console = config.terminal === undefined ? [] : bindConsole(trees, tree, pts);
  const common = { tree, pts, nothing, console };
  if (privileged) return { ...common, inside: own };
  const nodes = DEVICES.map((name) => [name, trees.take(`/dev/${name}`, DEVICE_ATTRIBUTES)] as const);
  const queues = trees.make('mqueue', NO_PROGRAMS, {}, NO_QUEUES);
  return {
    ...common,
    inside: [
      ...nodes.flatMap(([name, node]) => [...put(name, node, MAKE_FILE), close(node)]),
      ...own,
      ...put('mqueue', queues, MAKE_DIRECTORY),
      close(queues),
      ...LINKS.map(([to, name]) => call(`make /dev/${name}`, SYS.symlinkat, [to, tree, name])),
      ...(config.terminal === undefined
        ? []
        : [pathIn('make /dev/console', tree, 'console', MAKE_FILE, { into: trees.at }), close(trees.at)]),
    ],
  };
}

/** Protects the host's devices where another runtime is run: what it binds of them is as they are there. */
export function protectDevices(slots: Slots): Step[] {
  return DEVICES.flatMap((name) => {
    const path = `/dev/${name}`;
    const tree = slots.take();
    const purpose = `protect ${path}`;
    return [
      takeTree(path, tree),
      restrict(purpose, tree, DEVICE_ATTRIBUTES),
      call(purpose, SYS.move_mount, [tree, '', AT_FDCWD, path, MOVE_MOUNT.F_EMPTY_PATH]),
      close(tree),
    ];
  });
}

/** Binds the terminal to /dev/console, for programs that write there; the first terminal of an instance is 0. */
function bindConsole(trees: Trees, dev: Slot, pts: Slot): Step[] {
  const terminal = trees.slot();
  const tree = trees.slot();
  return [
    pathIn('find /dev/console', dev, 'console', PATH.FILE, { into: trees.at, ignore: [ERRNO.ENOENT] }),
    pathIn('find the terminal', pts, '0', PATH.FILE, { into: terminal }),
    copyTree('bind the terminal', terminal, tree, trees.at),
    close(terminal),
    ...trees.put('bind the terminal to /dev/console', tree),
    close(tree),
  ];
}

function volumes(config: ContainerConfig, root: Slot, trees: Trees, kept: Kept, host: MountHost): Step[] {
  return (config.volumes ?? []).flatMap(({ source, target, readOnly }) => {
    const tree = trees.take(source, NODEV | NOSUID | (readOnly === true ? RDONLY : 0));
    const kind = host.isDirectory(source) ? MAKE_DIRECTORY : MAKE_FILE;
    const purpose = `${VOLUME} ${target}`;
    return [
      pathIn(purpose, root, target, kind | PATH.OUTSIDE, { into: trees.at, kept }),
      ...trees.put(purpose, tree),
      close(tree),
    ];
  });
}

/** Purpose of the steps that put a volume where it belongs. */
export const VOLUME = 'mount the volume';

/** Hides the paths that are masked, before a volume comes: nothing is looked up here but in the kernel's own file systems. */
function hide(trees: Trees, tops: Readonly<Record<'/proc' | '/sys', Slot>>, { nothing }: Devices): Step[] {
  const { at } = trees;
  const tree = trees.slot();
  const find = (path: string, flags: number, ...ignore: number[]): Step => {
    const [top, inside] = path.startsWith('/proc/')
      ? [tops['/proc'], path.slice('/proc/'.length)]
      : [tops['/sys'], path.slice('/sys/'.length)];
    return pathIn(`find ${path}`, top, inside, flags, { into: at, ignore: [ERRNO.ENOENT, ...ignore] });
  };
  const cover = (purpose: string, copy: Step, attributes: number): Step[] => [
    copy,
    restrict(purpose, tree, attributes),
    ...trees.put(purpose, tree),
    close(tree),
  ];
  const readOnly = (path: string): Step[] => {
    const purpose = `make ${path} read-only`;
    return [find(path, 0), ...cover(purpose, copyTree(purpose, at, tree, at), RESTRICTED)];
  };
  // One of the two fits: a file hides a file, a directory one.
  const mask = (path: string): Step[] => {
    const byFile = `bind /dev/null to ${path}`;
    const byDirectory = `bind an empty directory to ${path}`;
    return [
      find(path, PATH.FILE, ERRNO.EISDIR),
      ...cover(byFile, copyTree(byFile, nothing.file, tree, at), NOSUID | NOEXEC),
      find(path, PATH.DIRECTORY, ERRNO.ENOTDIR),
      ...cover(byDirectory, copyAlone(byDirectory, nothing.directory, tree, at), RESTRICTED),
    ];
  };
  return [...READ_ONLY_PATHS.flatMap(readOnly), ...maskedPaths().flatMap(mask)];
}
