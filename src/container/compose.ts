/** The whole plan of a container. */
import { type AgentParts, composeAgent } from './agent/program.js';
import type { ContainerConfig, Namespace } from './config.js';
import { DEFAULT_HOSTNAME } from './config.js';
import { composeKeeper } from './keeper.js';
import { CLONE, ERRNO, MOUNT_ATTR, NET, O, SYS } from './linux.js';
import { composeMounts, type MountHost } from './mounts.js';
import { Data, type Plan, type Slot, type Step } from './plan.js';
import { composeProcess, MAKE_WORKING_DIRECTORY } from './process.js';
import { enterRoot, mountRoot } from './root.js';
import { call, close, type Kept, makeMountsPrivate, PATH, pathIn, restrictAlone, Slots } from './steps.js';
import { RESOLV_CONF } from './user-network.js';

const FLAGS: Readonly<Record<Exclude<Namespace, 'cgroup'>, number>> = {
  pid: CLONE.NEWPID,
  net: CLONE.NEWNET,
  uts: CLONE.NEWUTS,
  ipc: CLONE.NEWIPC,
  user: CLONE.NEWUSER,
};

/** What a plan has to know of the host. */
export interface PlanHost extends MountHost {
  /** Whether this process may mount: the superuser. */
  readonly superuser: boolean;
  /** What this process has of them, as a set of bits: capabilities(7). */
  readonly capabilities: bigint;
  /** An empty directory that is covered in the container's mount namespace. */
  readonly place: string;
  /** The layer is a copy of all, made for this container. */
  readonly copied: boolean;
  /** Directories of cgroups that are removed at the end when nobody is left to do it, the deepest first. */
  readonly cgroups: readonly string[];
  /** The agent, where there is to be one. */
  readonly agent?: AgentParts;
}

export function composePlan(config: ContainerConfig, host: PlanHost): Plan {
  const own = (namespace: Namespace): boolean => config.share?.includes(namespace) !== true;
  const slots = new Slots();
  const place = {
    place: host.place,
    layers: config.layers,
    copied: host.copied,
    ...(config.upper === undefined ? {} : { upper: config.upper }),
    memoryBytes: config.limits?.memoryBytes,
    ownAttributes: !host.superuser,
  };
  const root = slots.take();
  const mounts = composeMounts(config, root, slots, host);
  const agent =
    host.agent === undefined ? undefined : composeAgent(config, host.agent, host.capabilities, slots);
  const hasCommand = config.argv.length > 0;
  const hostname = config.hostname ?? DEFAULT_HOSTNAME;
  let cloneFlags: number = CLONE.NEWNS;
  for (const [namespace, flag] of Object.entries(FLAGS)) {
    if (own(namespace as Namespace)) cloneFlags |= flag;
  }
  return {
    cloneFlags,
    ...(config.terminal === undefined ? {} : { terminal: { ...config.terminal, pts: mounts.pts } }),
    // The superuser's overlay is mounted with the host's privileges, so that it reads layers that others made.
    host: [...(agent?.host ?? []), ...(host.superuser ? mountRoot(place, true) : [])],
    launcher: agent?.launcher ?? [],
    init: [
      ...(own('user') ? becomeRoot() : []),
      // By now it is in its cgroup, which so becomes the root of what it sees of them.
      ...(own('cgroup') ? [call('make a cgroup namespace', SYS.unshare, [CLONE.NEWCGROUP])] : []),
      ...(host.superuser ? [makeMountsPrivate()] : mountRoot(place, false)),
      ...mounts.before,
      ...enterRoot(host.place, root, slots),
      // Into the root itself, whatever volume comes to lie over it: that is the operator's, on the host.
      ...(config.network === 'user' ? writeResolvConf(root, slots) : []),
      ...mounts.inside,
      ...(config.makeCwd === true ? makeDirectoryOf(config.cwd ?? '/', root, mounts.kept, slots.take()) : []),
      ...(own('uts')
        ? [call(`set the host name`, SYS.sethostname, [hostname, Buffer.byteLength(hostname)])]
        : []),
      ...(own('net') ? loopbackUp(slots) : []),
      // /dev and volumes are what they are.
      ...(config.readOnly === true
        ? [restrictAlone('make the root read-only', root, MOUNT_ATTR.RDONLY)]
        : []),
    ],
    command: [
      ...mounts.console,
      ...(hasCommand ? composeProcess(config, host.capabilities, root, slots) : (agent?.agent ?? [])),
    ],
    agent: hasCommand ? (agent?.agent ?? []) : [],
    keeper: [...mounts.after, close(root), ...(agent?.keeper ?? []), ...composeKeeper()],
    cleanup: [
      ...host.cgroups.map((path) =>
        call(`remove ${path}`, SYS.rmdir, [path], { ignore: [ERRNO.ENOENT, ERRNO.EBUSY] }),
      ),
      ...(agent?.cleanup ?? []),
    ],
  };
}

/** Becomes root of a new user namespace. Nobody is anybody in it until the ids are mapped, which is done when process 1 goes on. */
function becomeRoot(): Step[] {
  return [
    call('become group 0', SYS.setresgid, [0, 0, 0]),
    // Not where one id is all there is.
    call('leave all groups', SYS.setgroups, [0, 0], { ignore: [ERRNO.EPERM] }),
    call('become user 0', SYS.setresuid, [0, 0, 0]),
  ];
}

/** Writes a file of its own, whatever the image has there: a link may lead to where nothing is. */
function writeResolvConf(root: Slot, slots: Slots): Step[] {
  const name = 'resolv.conf';
  const purpose = `make /etc/${name}`;
  const folder = slots.take();
  const file = slots.take();
  const flags = O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW | O.CLOEXEC;
  return [
    pathIn('find /etc of the image', root, '/etc', PATH.MAKE | PATH.DIRECTORY, { into: folder }),
    call(`replace /etc/${name}`, SYS.unlinkat, [folder, name, 0], { ignore: [ERRNO.ENOENT] }),
    call(purpose, SYS.openat, [folder, name, flags, 0o644], { into: file }),
    call(purpose, SYS.write, [file, RESOLV_CONF, RESOLV_CONF.length]),
    close(file),
    close(folder),
  ];
}

/** Makes the working directory. Nothing is made for it in /dev, /proc or /sys; one that is there already may be. */
function makeDirectoryOf(cwd: string, root: Slot, kept: Kept, directory: Slot): Step[] {
  const purpose = `${MAKE_WORKING_DIRECTORY} ${cwd}`;
  return [
    pathIn(purpose, root, cwd, PATH.MAKE | PATH.DIRECTORY, { into: directory, kept }),
    close(directory),
  ];
}

function loopbackUp(slots: Slots): Step[] {
  const socket = slots.take();
  const request = new Uint8Array(40); // struct ifreq
  request.set(Buffer.from('lo'));
  new DataView(request.buffer).setUint16(16, NET.IFF_UP, true);
  return [
    call('open a socket', SYS.socket, [NET.AF_INET, NET.SOCK_DGRAM, 0], { into: socket }),
    call('start the loopback interface', SYS.ioctl, [socket, NET.SIOCSIFFLAGS, new Data(request)]),
    close(socket),
  ];
}
