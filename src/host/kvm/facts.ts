/** Facts of a host where /dev/kvm does not serve: all that tells one cause from another. Read once, judged by causes.ts. */
import { KVM_PATH } from '../../kvm/kvm.js';
import { cpuField } from '../host-facts.js';
import type { HostReader } from '../host-tree.js';
import { effectiveCapabilities } from '../process-rights.js';

/** System call that failed, and with what. */
export interface KvmFailure {
  readonly syscall: string;
  readonly code: string;
}

/** File at /dev/kvm. */
export interface KvmNode {
  readonly kind: 'device' | 'regular file' | 'folder' | 'link to nothing' | 'special file';
  /** Numbers of a device. */
  readonly major: number;
  readonly minor: number;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Rights of this process. */
export interface Identity {
  readonly uid: number;
  readonly gids: readonly number[];
}

export type ContainerKind = 'docker' | 'podman' | 'kubernetes' | 'lxc' | 'systemd-nspawn' | 'container';

export interface KvmFacts {
  readonly failure: KvmFailure;
  readonly node: KvmNode | undefined;
  /** The file system of the node is mounted without devices. */
  readonly nodev: boolean;
  /** KVM's driver has registered its device with the kernel. */
  readonly registered: boolean;
  /** Names of modules that are loaded or built in. */
  readonly loaded: readonly string[];
  /** KVM among the modules on the disk: `other kernel` if those that are there are of other kernels than the one that runs. */
  readonly installed: 'kvm' | 'without kvm' | 'other kernel';
  /** The first processor's; undefined if the kernel does not say. */
  readonly cpu: { readonly vendor: string; readonly flags: readonly string[] } | undefined;
  /** Release of the kernel. */
  readonly release: string;
  readonly container: ContainerKind | undefined;
  /** Strings of the firmware (/sys/class/dmi/id), by the names of their files; empty where there are none. */
  readonly firmware: Readonly<Record<string, string>>;
  readonly identity: Identity;
  /** This process is in the user namespace of the boot, in which every id is mapped. */
  readonly initialUsers: boolean;
  /** Permission bits do not bind this process (CAP_DAC_OVERRIDE of the initial namespace). */
  readonly overrides: boolean;
  /** Name of this user; undefined if /etc/passwd has none. */
  readonly userName: string | undefined;
  /** Group of this user in /etc/passwd. */
  readonly primaryGid: number | undefined;
  readonly groups: readonly Group[];
  /** A CI job, in which nobody logs in again. */
  readonly ci: boolean;
}

/** Inodes of the namespaces that the kernel boots with (include/linux/proc_ns.h). */
const INITIAL_NAMESPACES = {
  ipc: 4_026_531_839,
  uts: 4_026_531_838,
  user: 4_026_531_837,
  pid: 4_026_531_836,
} as const;
/** <linux/capability.h> */
const CAP_DAC_OVERRIDE = 1n << 1n;
const FIRMWARE_STRINGS = ['sys_vendor', 'product_name', 'chassis_asset_tag'] as const;

export function readKvmFacts(
  tree: HostReader,
  failure: KvmFailure,
  identity: Identity = ownIdentity(),
): KvmFacts {
  const release = tree.text('proc/sys/kernel/osrelease') ?? '';
  const initialUsers = isInitial(tree, 'user');
  const [userName, , , primaryGid] =
    rows(tree, 'etc/passwd').find(([, , uid]) => Number(uid) === identity.uid) ?? [];
  return {
    failure,
    node: nodeIn(tree),
    nodev: isMountedNodev(tree.text('proc/self/mountinfo') ?? ''),
    registered: /^\s*\d+ kvm$/m.test(tree.text('proc/misc') ?? ''),
    loaded: tree.names('sys/module') ?? [],
    installed: installedModules(tree, release),
    cpu: firstCpu(tree.text('proc/cpuinfo') ?? ''),
    release,
    container: containerKind(tree),
    firmware: Object.fromEntries(
      FIRMWARE_STRINGS.map((name) => [name, tree.text(`sys/class/dmi/id/${name}`) ?? '']),
    ),
    identity,
    initialUsers,
    overrides: initialUsers && ((effectiveCapabilities(tree) ?? 0n) & CAP_DAC_OVERRIDE) !== 0n,
    userName,
    primaryGid: primaryGid === undefined ? undefined : Number(primaryGid),
    groups: rows(tree, 'etc/group').map(([name = '', , gid, members = '']) => ({
      name,
      gid: Number(gid),
      members: members.split(','),
    })),
    ci: environmentOf(tree).some((variable) => /^(CI|GITHUB_ACTIONS)=(true|1)$/.test(variable)),
  };
}

function ownIdentity(): Identity {
  const { geteuid, getegid, getgroups } = process;
  return { uid: geteuid?.() ?? 0, gids: [getegid?.() ?? 0, ...(getgroups?.() ?? [])] };
}

function nodeIn(tree: HostReader): KvmNode | undefined {
  const stats = tree.stats(KVM_PATH);
  if (stats === undefined) return undefined;
  const { rdev, mode, uid, gid } = stats;
  const kind = stats.isCharacterDevice()
    ? 'device'
    : stats.isDirectory()
      ? 'folder'
      : stats.isFile()
        ? 'regular file'
        : stats.isSymbolicLink()
          ? 'link to nothing'
          : 'special file';
  // <linux/kdev_t.h>: twelve bits of major number, the minor number around them.
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return { kind, major, minor, mode: mode & 0o7777, uid, gid };
}

/** Tells whether the mount that holds /dev/kvm, the last of those at the longest path, has no devices; proc_pid_mountinfo(5). */
function isMountedNodev(mountinfo: string): boolean {
  let longest = '';
  let nodev = false;
  for (const line of mountinfo.split('\n')) {
    const [, , , , point = '', options = ''] = line.split(' ');
    const holds = point === '/' || KVM_PATH === point || KVM_PATH.startsWith(`${point}/`);
    if (!holds || point.length < longest.length) continue;
    longest = point;
    nodev = options.split(',').includes('nodev');
  }
  return nodev;
}

function installedModules(tree: HostReader, release: string): KvmFacts['installed'] {
  const releases = tree.names('lib/modules') ?? [];
  if (releases.length > 0 && !releases.includes(release)) return 'other kernel';
  const folder = `lib/modules/${release}`;
  const lists = ['modules.dep', 'modules.builtin'].map((name) => tree.text(`${folder}/${name}`) ?? '');
  return /\/kvm[-_](intel|amd)\.ko/.test(lists.join('\n')) ? 'kvm' : 'without kvm';
}

function firstCpu(cpuinfo: string): KvmFacts['cpu'] {
  const flags = cpuField(cpuinfo, 'flags');
  return flags === undefined
    ? undefined
    : { vendor: cpuField(cpuinfo, 'vendor_id') ?? '', flags: flags.split(' ') };
}

/** Tells whether this process is in the boot's namespace of a kind; also where nobody says. */
function isInitial(tree: HostReader, kind: keyof typeof INITIAL_NAMESPACES): boolean {
  const own = tree.link(`proc/self/ns/${kind}`);
  return own === undefined || own === `${kind}:[${INITIAL_NAMESPACES[kind]}]`;
}

/**
 * Marks that runtimes leave in their containers, and their names in the paths of cgroups. Files count only in namespaces that a runtime
 * made: a virtual machine whose disk was once an image has them too.
 */
export function containerKind(tree: HostReader): ContainerKind | undefined {
  const environment = environmentOf(tree);
  const cgroup = tree.text('proc/self/cgroup') ?? '';
  const variable = (name: string): string | undefined =>
    environment.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
  const named = variable('container') ?? tree.text('run/systemd/container') ?? '';
  const isBoot = (['pid', 'ipc', 'uts'] as const).every((kind) => isInitial(tree, kind));
  const isThere = (path: string): boolean => !isBoot && tree.stats(path) !== undefined;
  if (
    variable('KUBERNETES_SERVICE_HOST') !== undefined ||
    isThere('var/run/secrets/kubernetes.io') ||
    /\/kubepods/.test(cgroup)
  )
    return 'kubernetes';
  if (isThere('run/.containerenv') || named === 'podman' || /\/libpod-/.test(cgroup)) return 'podman';
  if (isThere('.dockerenv') || named === 'docker' || /\/docker[-/]/.test(cgroup)) return 'docker';
  if (named.startsWith('lxc') || /\/lxc(\.payload)?[./]/.test(cgroup)) return 'lxc';
  if (named === 'systemd-nspawn') return 'systemd-nspawn';
  return named === '' || named === 'wsl' ? undefined : 'container';
}

/** Variables of this process as it was started. */
const environmentOf = (tree: HostReader): string[] => tree.text('proc/self/environ')?.split('\0') ?? [];

/** Lines of a table of users or groups. */
const rows = (tree: HostReader, path: string): string[][] =>
  (tree.text(path) ?? '').split('\n').map((line) => line.split(':'));
