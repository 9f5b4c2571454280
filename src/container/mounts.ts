/** What a container sees besides its layers: /proc, /sys, /dev, volumes; and what it must not. */
import type { ContainerConfig, Namespace } from './config.js';
import { AT_FDCWD, ERRNO, MOUNT_ATTR, MS, O, SYS } from './linux.js';
import { maskedPaths, READ_ONLY_PATHS } from './masked-paths.js';
import type { Slot, Step } from './plan.js';
import {
  bind,
  call,
  makeDirectories,
  makeDirectory,
  makeFile,
  makeSymlink,
  mountFs,
  putTree,
  restrict,
  type Slots,
  takeTree,
} from './steps.js';

/** Of the host's devices, those that a container has. */
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'] as const;
const LINKS = [
  ['/proc/self/fd', '/dev/fd'],
  ['/proc/self/fd/0', '/dev/stdin'],
  ['/proc/self/fd/1', '/dev/stdout'],
  ['/proc/self/fd/2', '/dev/stderr'],
  ['pts/ptmx', '/dev/ptmx'],
] as const;

const SHM_OPTIONS = 'mode=1777,size=64m';
const NO_PROGRAMS = MS.NOSUID | MS.NODEV | MS.NOEXEC;
/** Where /sys is the host's, or its cgroups are hidden from this process as well. */
const NO_CGROUPS = [ERRNO.EPERM, ERRNO.EBUSY];
const RESTRICTED = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC;

export interface Mounts {
  /** While the host's root is the root. */
  readonly before: Step[];
  /** In the new one. Nothing of the host's is named any more, so no link of the image's can lead to it. */
  readonly inside: Step[];
}

/** What there is on the host. */
export interface MountHost {
  /** Whether group 5, which owns terminals, exists in the container. */
  readonly terminalGroup: boolean;
  /** Whether the container's cgroup is one of version 2's. */
  readonly unified: boolean;
  isDirectory(path: string): boolean;
}

export function composeMounts(config: ContainerConfig, slots: Slots, host: MountHost): Mounts {
  const before: Step[] = [];
  const scratch = slots.take();
  const take = (path: string): Slot => {
    const slot = slots.take();
    before.push(takeTree(path, slot));
    return slot;
  };
  const inside = [
    ...kernelFileSystems(config, take, scratch),
    ...(host.unified ? [mountFs('cgroup2', '/sys/fs/cgroup', NO_PROGRAMS | MS.RDONLY, '', NO_CGROUPS)] : []),
    ...devices(config, take, scratch, host.terminalGroup),
    ...volumes(config, take, scratch, host),
    ...(config.privileged === true ? [] : hide()),
  ];
  return { before, inside };
}

function kernelFileSystems(config: ContainerConfig, take: (path: string) => Slot, scratch: Slot): Step[] {
  const shares = (namespace: Namespace): boolean => config.share?.includes(namespace) === true;
  const sys = config.privileged === true ? NO_PROGRAMS : NO_PROGRAMS | MS.RDONLY;
  return [
    ...['/proc', '/sys', '/dev'].flatMap((path) => [makeDirectory(path), ...refuseLink(path, scratch)]),
    // Instances of their own, where the namespace that they show is the container's own.
    ...(shares('pid')
      ? putTree(take('/proc'), '/proc', MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC)
      : [mountFs('proc', '/proc', NO_PROGRAMS)]),
    ...(shares('net') ? putTree(take('/sys'), '/sys', RESTRICTED) : [mountFs('sysfs', '/sys', sys)]),
  ];
}

/** An image's link there would lead mounts, and what is masked, astray. */
function refuseLink(path: string, scratch: Slot): Step[] {
  const flags = O.PATH | O.DIRECTORY | O.NOFOLLOW | O.CLOEXEC;
  return [
    call(`find a directory at ${path} of the image`, SYS.openat, [AT_FDCWD, path, flags], { into: scratch }),
    call(`look at ${path}`, SYS.close, [scratch]),
  ];
}

function devices(
  config: ContainerConfig,
  take: (path: string) => Slot,
  scratch: Slot,
  terminalGroup: boolean,
): Step[] {
  const pts = `newinstance,ptmxmode=0666,mode=0620${terminalGroup ? ',gid=5' : ''}`;
  const noNodes = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC;
  const own = [
    makeDirectory('/dev/pts'),
    mountFs('devpts', '/dev/pts', MS.NOSUID | MS.NOEXEC, pts),
    makeDirectory('/dev/shm', 0o1777),
    mountFs('tmpfs', '/dev/shm', NO_PROGRAMS, SHM_OPTIONS),
  ];
  if (config.privileged === true) return [...putTree(take('/dev'), '/dev', noNodes), ...own];
  return [
    // No node in it or anywhere else opens a device, whoever made it: only those that are bound here.
    mountFs('tmpfs', '/dev', MS.NOSUID | MS.NODEV, 'mode=755,size=64k'),
    ...DEVICES.flatMap((name) => [
      ...makeFile(`/dev/${name}`, scratch),
      ...putTree(take(`/dev/${name}`), `/dev/${name}`, noNodes),
    ]),
    ...own,
    makeDirectory('/dev/mqueue', 0o1777),
    mountFs('mqueue', '/dev/mqueue', NO_PROGRAMS, '', [ERRNO.EPERM, ERRNO.EINVAL]),
    ...LINKS.map(([to, path]) => makeSymlink(to, path)),
    ...(config.terminal === undefined ? [] : makeFile('/dev/console', scratch)),
  ];
}

function volumes(
  config: ContainerConfig,
  take: (path: string) => Slot,
  scratch: Slot,
  host: MountHost,
): Step[] {
  return (config.volumes ?? []).flatMap((volume) => {
    const parent = volume.target.replace(/\/+[^/]*\/*$/, '');
    const attributes =
      MOUNT_ATTR.NODEV | MOUNT_ATTR.NOSUID | (volume.readOnly === true ? MOUNT_ATTR.RDONLY : 0);
    return [
      ...makeDirectories(parent),
      ...(host.isDirectory(volume.source)
        ? [makeDirectory(volume.target)]
        : makeFile(volume.target, scratch)),
      ...putTree(take(volume.source), volume.target, attributes),
    ];
  });
}

function hide(): Step[] {
  return [
    ...READ_ONLY_PATHS.flatMap((path) => [
      bind(path, path, [ERRNO.ENOENT]),
      restrict(path, RESTRICTED, [ERRNO.ENOENT, ERRNO.EINVAL]),
    ]),
    // One of the two fits: a file takes a file, a directory a file system.
    ...maskedPaths().flatMap((path) => [
      bind('/dev/null', path, [ERRNO.ENOENT, ERRNO.ENOTDIR]),
      mountFs('tmpfs', path, NO_PROGRAMS | MS.RDONLY, 'size=0', [ERRNO.ENOENT, ERRNO.ENOTDIR]),
    ]),
  ];
}
