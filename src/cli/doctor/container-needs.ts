/** Needs of containers: what the kernel and this user's rights allow. */
import {
  controllersOf,
  delegatedParent,
  type Hierarchy,
  parseHierarchies,
} from '../../container/cgroup-host.js';
import { ENGINES } from '../../container/config.js';
import { mountsOverlayForUsers } from '../../container/copied-root.js';
import { ENGINE_PACKAGES } from '../../container/engine.js';
import type { HostReader } from '../../host/host-tree.js';
import { type ContainerKind, containerKind } from '../../host/kvm/facts.js';
import { effectiveCapabilities } from '../../host/process-rights.js';
import { asRoot, fails, has, lacks, type Need, type NeedsHost, type Verdict } from './check.js';

/** <linux/capability.h> */
const CAP_SYS_ADMIN = 1n << 21n;
const LIMITS = { cpu: '--cpus', memory: '--memory', pids: '--pids' } as const;
/** Containers whose default filter refuses unshare(2) and clone(2) with CLONE_NEWUSER; that of podman and LXC does not. */
const FILTERED: readonly ContainerKind[] = ['docker', 'kubernetes', 'container'];
const NOTHING_RUNS = 'no container can be made';

const sysctl = (files: HostReader, name: string): number | undefined =>
  files.number(`proc/sys/${name.replaceAll('.', '/')}`);

const mayAdminister = ({ files }: NeedsHost): boolean =>
  ((effectiveCapabilities(files) ?? 0n) & CAP_SYS_ADMIN) !== 0n;

const isFiltered = ({ files }: NeedsHost): boolean =>
  /^Seccomp:\s*2$/m.test(files.text('proc/self/status') ?? '');

/** Settings that keep users from namespaces; the first that does is told. */
function userNamespaces(host: NeedsHost): Verdict {
  const { files, uid } = host;
  const set = (setting: string): string => asRoot(host, `sysctl -w ${setting}`);
  if (files.names('proc/self/ns')?.includes('user') === false)
    return fails(`this kernel has none: ${NOTHING_RUNS}`, 'boot a kernel with CONFIG_USER_NS');
  if (sysctl(files, 'user.max_user_namespaces') === 0)
    return fails(`user.max_user_namespaces is 0: ${NOTHING_RUNS}`, set('user.max_user_namespaces=15000'));
  if (mayAdminister(host)) return has(uid === 0 ? 'as the superuser' : 'with CAP_SYS_ADMIN');
  if (sysctl(files, 'kernel.unprivileged_userns_clone') === 0)
    return fails(
      `kernel.unprivileged_userns_clone is 0: ${NOTHING_RUNS} by a user`,
      set('kernel.unprivileged_userns_clone=1'),
    );
  if (sysctl(files, 'kernel.apparmor_restrict_unprivileged_userns') === 1)
    return fails(
      `AppArmor restricts those of users: ${NOTHING_RUNS} by one`,
      set('kernel.apparmor_restrict_unprivileged_userns=0'),
    );
  const outer = containerKind(files);
  if (outer !== undefined && FILTERED.includes(outer) && isFiltered(host))
    return fails(
      `the system calls of this container are filtered: ${NOTHING_RUNS} in it`,
      'docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined',
    );
  return uid === 0
    ? fails(`the superuser without CAP_SYS_ADMIN: ${NOTHING_RUNS}`, 'docker run --privileged')
    : has('for this user');
}

function overlay(host: NeedsHost): Verdict {
  const { files, uid } = host;
  const release = files.text('proc/sys/kernel/osrelease') ?? '';
  const loaded = /\boverlay$/m.test(files.text('proc/filesystems') ?? '');
  const lists = ['modules.dep', 'modules.builtin'].map((name) =>
    files.text(`lib/modules/${release}/${name}`),
  );
  if (!loaded && !lists.some((text) => /\/overlay\.ko/.test(text ?? '')))
    return fails(`this kernel has none: ${NOTHING_RUNS}`, 'boot a kernel with CONFIG_OVERLAY_FS');
  // A user's process loads no module.
  if (!loaded && uid !== 0)
    return fails(`the module is not loaded: ${NOTHING_RUNS}`, 'sudo modprobe overlay');
  return uid === 0 || mountsOverlayForUsers(release)
    ? has('layers are mounted over one another')
    : lacks('Linux before 5.11 has none for users: layers are copied, and there is no --upper');
}

/** Tells whether this user may make cgroups in a hierarchy: it is his, and not mounted read-only. */
function isOpen({ files, uid }: NeedsHost, hierarchy: Hierarchy): boolean {
  const mounts = (files.text('proc/self/mountinfo') ?? '').split('\n').map((line) => line.split(' '));
  const options = mounts.findLast(([, , , , point]) => point === hierarchy.mount)?.[5] ?? '';
  if (options.split(',').includes('ro')) return false;
  const ownerOf = (directory: string): number | undefined => files.stats(directory)?.uid;
  return hierarchy.version === 1
    ? uid === 0 || ownerOf(hierarchy.directory) === uid
    : delegatedParent(hierarchy, uid, ownerOf) !== undefined;
}

function cgroups(host: NeedsHost): Verdict {
  const { files, uid } = host;
  const hierarchies = parseHierarchies(
    files.text('proc/self/cgroup') ?? '',
    files.text('proc/self/mountinfo') ?? '',
    (directory) => files.text(`${directory}/cgroup.controllers`)?.split(/\s+/) ?? [],
  );
  const open = hierarchies.filter((hierarchy) => isOpen(host, hierarchy));
  const limited = Object.entries(LIMITS).filter(([name]) =>
    open.some((hierarchy) => controllersOf(hierarchy).includes(name as keyof typeof LIMITS)),
  );
  const versions = [...new Set(open.map(({ version }) => version))].sort().join(' and ');
  if (limited.length === Object.keys(LIMITS).length) return has(`of version ${versions}, with every limit`);
  const missing = Object.entries(LIMITS).filter(([name]) => !limited.some(([other]) => other === name));
  const lost = `no ${missing.map(([, flag]) => flag).join(', no ')} of containers`;
  if (hierarchies.length === 0)
    return lacks(`none are mounted: ${lost}`, 'mount -t cgroup2 none /sys/fs/cgroup');
  return uid === 0
    ? lacks(`not for this process: ${lost}`, 'in a container, start it with: --privileged --cgroupns=private')
    : lacks(`not delegated to this user: ${lost}`, 'systemd-run --user --scope -p Delegate=yes tsvm ...');
}

function engines({ files, program, uid }: NeedsHost): Verdict {
  const there = ENGINES.filter((engine) => program(engine) !== undefined);
  const absent = ENGINES.filter((engine) => !there.includes(engine));
  const fix = `apt-get install ${absent.map((engine) => ENGINE_PACKAGES[engine]).join(' ')}`;
  if (there.length === 0) return lacks('no other runtime is installed: no --engine', fix);
  const isIdle = there.includes('docker') && files.stats('run/docker.sock') === undefined;
  const remarks = [
    ...(isIdle ? ['docker’s daemon does not run'] : []),
    ...(absent.length > 0 ? [`not installed: ${absent.join(', ')}`] : []),
    ...(uid === 0 ? [] : ['for the superuser']),
  ];
  return has([there.join(', '), ...remarks].join('; '));
}

export const CONTAINER_NEEDS: readonly Need[] = [
  { area: 'containers', name: 'user namespaces', examine: userNamespaces },
  { area: 'containers', name: 'overlay', examine: overlay },
  { area: 'containers', name: 'cgroups', examine: cgroups },
  { area: 'containers', name: 'engines', examine: engines },
];
