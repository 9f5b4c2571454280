/** Causes for which /dev/kvm does not serve, each with its one remedy: a table over the facts, of which the first row that fits is it. */
import { KVM_PATH } from '../../kvm/kvm.js';
import type { ContainerKind, KvmFacts } from './facts.js';
import { hypervisorOf } from './hypervisors.js';

export interface KvmCause {
  /** Name, and the row of the table in docs/host.md. */
  readonly id: string;
  /** Fault, as the end of a sentence: `cannot open /dev/kvm: ...`. */
  readonly detail: string;
  /** One command or step that makes it right. */
  readonly remedy: string;
}

interface Row {
  readonly id: string;
  applies(facts: KvmFacts): boolean;
  detail(facts: KvmFacts): string;
  remedy(facts: KvmFacts): string;
}

/** Documentation/admin-guide/devices.txt: a misc device, and KVM's number. */
const MAJOR = 10;
const MINOR = 232;
const GROUP = 'kvm';
const READ_WRITE = 0o6;
/** Id that the kernel shows for one which the user namespace does not map (/proc/sys/kernel/overflowuid). */
const OVERFLOW_ID = 65_534;

/** Ways to start a container with the device. */
const WITH_DEVICE: Readonly<Record<ContainerKind, string>> = {
  docker: 'start the container with the device: docker run --device /dev/kvm',
  podman: 'start the container with the device: podman run --device /dev/kvm',
  kubernetes:
    'request the device for the pod, which its node’s device plugin gives: limits: devices.kubevirt.io/kvm: 1',
  lxc: 'on its host: lxc config device add NAME kvm unix-char path=/dev/kvm',
  'systemd-nspawn': 'start it with: systemd-nspawn --bind /dev/kvm --property DeviceAllow="/dev/kvm rw"',
  container: 'have the container started with its host’s /dev/kvm',
};

const DEV_BIND = 'bwrap: --dev-bind /dev/kvm /dev/kvm';

const CPU_SETTINGS: Readonly<Record<string, string>> = {
  GenuineIntel: 'Intel VT-x',
  AuthenticAMD: 'AMD SVM',
};

const asRoot = ({ identity }: KvmFacts, ...commands: readonly string[]): string =>
  commands.map((command) => (identity.uid === 0 ? command : `sudo ${command}`)).join(' && ');

const refused = ({ failure }: KvmFacts): boolean => failure.code === 'EACCES';
/** Tells whether KVM's driver is not there, whatever stands at its path. */
const isDriverless = ({ failure }: KvmFacts): boolean =>
  ['ENOENT', 'ENODEV', 'ENXIO', 'ENOTDIR'].includes(failure.code);
const flag = ({ cpu }: KvmFacts, name: string): boolean => cpu?.flags.includes(name) === true;
const virtualizes = (facts: KvmFacts): boolean => flag(facts, 'vmx') || flag(facts, 'svm');
const moduleOf = (facts: KvmFacts): string => (flag(facts, 'svm') ? 'kvm_amd' : 'kvm_intel');
/** Releases end in `-Microsoft` in WSL 1, and in `-microsoft-standard-WSL2` in WSL 2. */
const isWsl1 = ({ release }: KvmFacts): boolean => release.endsWith('-Microsoft');
const isWsl2 = ({ release }: KvmFacts): boolean => /microsoft-standard/i.test(release);

/** Group of the node if joining it opens the device: one with a name, which is not the superuser's. */
function openingGroup({ node, groups }: KvmFacts): string | undefined {
  if (node === undefined || node.gid === 0 || ((node.mode >> 3) & READ_WRITE) !== READ_WRITE)
    return undefined;
  return groups.find(({ gid }) => gid === node.gid)?.name;
}

const runsInGroup = ({ node, identity }: KvmFacts): boolean =>
  node !== undefined && identity.gids.includes(node.gid);

/** Tells whether the next session of this user is in the group. */
function belongsTo({ groups, userName, primaryGid }: KvmFacts, group: string): boolean {
  const found = groups.find(({ name }) => name === group);
  return (
    found !== undefined &&
    (found.gid === primaryGid || (userName !== undefined && found.members.includes(userName)))
  );
}

/** Tells whether the mode lets this process open the device; then something else refused it. */
function modeAllows(facts: KvmFacts): boolean {
  const { node, identity } = facts;
  if (node === undefined) return false;
  const shift = node.uid === identity.uid ? 6 : runsInGroup(facts) ? 3 : 0;
  return facts.overrides || ((node.mode >> shift) & READ_WRITE) === READ_WRITE;
}

const makeNode = (facts: KvmFacts): string =>
  asRoot(
    facts,
    `mknod -m 660 ${KVM_PATH} c ${MAJOR} ${MINOR}`,
    ...(facts.groups.some(({ name }) => name === GROUP) ? [`chgrp ${GROUP} ${KVM_PATH}`] : []),
  );

const join = (facts: KvmFacts, group: string): string =>
  `sudo usermod -aG ${group} ${facts.userName ?? '$USER'}, then log in again`;

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

function ownerOf({ node, groups }: KvmFacts): string {
  if (node === undefined) return '';
  const group = groups.find(({ gid }) => gid === node.gid)?.name ?? String(node.gid);
  return `${node.uid === 0 ? 'root' : node.uid}:${group}, mode ${octal(node.mode)}`;
}

const ROWS: readonly Row[] = [
  {
    id: 'not-a-device',
    applies: ({ node }) => node !== undefined && node.kind !== 'device',
    detail: ({ node, container }) =>
      node?.kind === 'folder' && container !== undefined
        ? 'it is a folder, which a container gets whose host has no /dev/kvm'
        : `it is a ${node?.kind}, not a device`,
    remedy: (facts) =>
      facts.container === undefined
        ? `${asRoot(facts, `rm -r ${KVM_PATH}`)} && ${makeNode(facts)}`
        : WITH_DEVICE[facts.container],
  },
  {
    id: 'another-device',
    applies: ({ node }) => node !== undefined && (node.major !== MAJOR || node.minor !== MINOR),
    detail: ({ node }) => `it is device ${node?.major}:${node?.minor}, and KVM’s is ${MAJOR}:${MINOR}`,
    remedy: (facts) => `${asRoot(facts, `rm ${KVM_PATH}`)} && ${makeNode(facts)}`,
  },
  {
    id: 'mounted-without-devices',
    applies: (facts) => refused(facts) && facts.nodev,
    detail: () => 'permission denied: it is on a file system that is mounted nodev',
    remedy: () => `mount it with devices; ${DEV_BIND}`,
  },
  {
    id: 'user-namespace',
    applies: (facts) =>
      refused(facts) &&
      facts.container === undefined &&
      !facts.initialUsers &&
      (facts.node?.uid === OVERFLOW_ID || facts.node?.gid === OVERFLOW_ID),
    detail: () => 'permission denied: in this user namespace its owner and group are nobody’s',
    remedy: () => 'run tsvm outside of it, as a user who may open the device',
  },
  {
    id: 'not-for-a-ci-job',
    applies: (facts) => refused(facts) && facts.ci && facts.container === undefined && !modeAllows(facts),
    detail: (facts) => `permission denied: it is ${ownerOf(facts)}, and a CI job logs in once`,
    remedy: (facts) => asRoot(facts, `chmod 666 ${KVM_PATH}`),
  },
  {
    id: 'session-too-old',
    applies: (facts) => {
      const group = openingGroup(facts);
      if (!refused(facts) || facts.container !== undefined || group === undefined) return false;
      return !runsInGroup(facts) && belongsTo(facts, group);
    },
    detail: (facts) =>
      `permission denied: ${facts.userName ?? 'this user'} is in group ${openingGroup(facts)}, but this session is older than that`,
    remedy: (facts) => `log in again; in this shell alone: newgrp ${openingGroup(facts)}`,
  },
  {
    id: 'not-in-group',
    applies: (facts) =>
      refused(facts) &&
      facts.container === undefined &&
      !runsInGroup(facts) &&
      openingGroup(facts) !== undefined &&
      !modeAllows(facts),
    detail: (facts) =>
      `permission denied: it is for group ${openingGroup(facts)}, in which ${facts.userName ?? 'this user'} is not`,
    remedy: (facts) => join(facts, openingGroup(facts) ?? GROUP),
  },
  {
    id: 'container-without-group',
    applies: (facts) => refused(facts) && facts.container !== undefined && !modeAllows(facts),
    detail: (facts) => `permission denied: in this container it is ${ownerOf(facts)}`,
    remedy: ({ container, node }) =>
      container === 'docker'
        ? `start the container with its group: docker run --device /dev/kvm --group-add ${node?.gid}`
        : container === 'podman'
          ? 'start the container with your groups: podman run --device /dev/kvm --group-add keep-groups'
          : container === 'kubernetes'
            ? `add its group to the pod: securityContext: supplementalGroups: [${node?.gid}]`
            : 'run as root in the container, or open the device to its users: chmod 666 /dev/kvm on its host',
  },
  {
    id: 'for-root-only',
    applies: (facts) => refused(facts) && !modeAllows(facts),
    detail: (facts) => `permission denied: it is for root alone (${ownerOf(facts)})`,
    remedy: (facts) => {
      const exists = facts.groups.some(({ name }) => name === GROUP);
      const give = asRoot(
        facts,
        ...(exists ? [] : [`groupadd --system ${GROUP}`]),
        `chown root:${GROUP} ${KVM_PATH}`,
        `chmod 660 ${KVM_PATH}`,
      );
      return belongsTo(facts, GROUP) ? give : `${give} && ${join(facts, GROUP)}`;
    },
  },
  {
    id: 'security-module',
    applies: refused,
    detail: (facts) =>
      `permission denied, though its mode (${ownerOf(facts)}) allows it: a security module refused`,
    remedy: (facts) => `see which rule: ${asRoot(facts, 'dmesg')} | grep -i denied`,
  },
  {
    id: 'device-cgroup',
    applies: ({ failure }) => failure.code === 'EPERM',
    detail: ({ container }) =>
      `not permitted: the device cgroup of this ${container === undefined ? 'service' : 'container'} does not have it`,
    remedy: ({ container }) =>
      container === undefined ? 'put DeviceAllow=/dev/kvm rw into its systemd unit' : WITH_DEVICE[container],
  },
  {
    id: 'container-without-device',
    applies: (facts) => isDriverless(facts) && facts.registered && facts.container !== undefined,
    detail: () => 'its host has KVM, and this container was started without the device',
    remedy: ({ container = 'container' }) => WITH_DEVICE[container],
  },
  {
    id: 'no-node',
    applies: (facts) => isDriverless(facts) && facts.registered,
    detail: () => 'there is no such device here, though the kernel has KVM',
    remedy: (facts) =>
      facts.initialUsers ? makeNode(facts) : `start this sandbox with the device; ${DEV_BIND}`,
  },
  {
    id: 'wsl1',
    applies: (facts) => isDriverless(facts) && isWsl1(facts),
    detail: () => 'this is WSL 1, which has no kernel of Linux',
    remedy: () => 'in Windows: wsl --set-version DISTRIBUTION 2',
  },
  {
    id: 'wsl2',
    applies: (facts) => isDriverless(facts) && !virtualizes(facts) && isWsl2(facts),
    detail: () => 'nested virtualization is off in WSL 2',
    remedy: () =>
      'put nestedVirtualization=true below [wsl2] in %UserProfile%\\.wslconfig, then in Windows: wsl --shutdown',
  },
  {
    id: 'nested-off',
    applies: (facts) => isDriverless(facts) && !virtualizes(facts) && flag(facts, 'hypervisor'),
    detail: (facts) =>
      `this host is a guest of ${hypervisorOf(facts).name}, and nested virtualization is off (no vmx or svm in /proc/cpuinfo)`,
    remedy: (facts) => hypervisorOf(facts).remedy,
  },
  {
    id: 'no-virtualization',
    applies: (facts) => isDriverless(facts) && facts.cpu !== undefined && !virtualizes(facts),
    detail: () => 'the processor shows no virtualization (no vmx or svm in /proc/cpuinfo)',
    remedy: ({ cpu }) =>
      `switch ${CPU_SETTINGS[cpu?.vendor ?? ''] ?? 'virtualization'} on in the firmware (BIOS), if this processor has it`,
  },
  {
    id: 'container-host-without-kvm',
    applies: (facts) => isDriverless(facts) && facts.container !== undefined,
    detail: (facts) => `the host of this container has not loaded ${moduleOf(facts)}`,
    remedy: (facts) =>
      `on its host: sudo modprobe ${moduleOf(facts)}; then ${WITH_DEVICE[facts.container ?? 'container']}`,
  },
  {
    id: 'module-refused',
    applies: (facts) => isDriverless(facts) && facts.loaded.includes(moduleOf(facts)),
    detail: (facts) => `${moduleOf(facts)} is loaded, but it made no device`,
    remedy: (facts) => `see why: ${asRoot(facts, 'dmesg')} | grep -i kvm`,
  },
  {
    id: 'kernel-replaced',
    applies: (facts) =>
      isDriverless(facts) && facts.cpu !== undefined && facts.installed === 'other kernel' && !isWsl2(facts), // its kernel is Windows’s, whatever the distribution installs
    detail: ({ release }) => `the modules of the running kernel, ${release}, are not installed any more`,
    remedy: () => 'boot again, into the kernel that is installed',
  },
  {
    id: 'kernel-without-kvm',
    applies: (facts) => isDriverless(facts) && facts.cpu !== undefined && facts.installed === 'without kvm',
    detail: ({ release }) => `this kernel, ${release}, was built without KVM`,
    remedy: (facts) =>
      `boot a kernel that has it: ${asRoot(facts, 'apt-get install linux-image-amd64')}, or one with CONFIG_KVM`,
  },
  {
    id: 'no-module',
    applies: (facts) => isDriverless(facts) && facts.cpu !== undefined,
    detail: (facts) => `the module ${moduleOf(facts)} is not loaded`,
    remedy: (facts) => asRoot(facts, `modprobe ${moduleOf(facts)}`),
  },
  {
    id: 'unknown',
    applies: () => true,
    detail: ({ failure }) => `${failure.syscall} failed with ${failure.code}`,
    remedy: (facts) => `see what the kernel says: ${asRoot(facts, 'dmesg')} | tail`,
  },
];

/** Names of all causes, for the documentation. */
export const KVM_CAUSE_IDS: readonly string[] = ROWS.map(({ id }) => id);

export function kvmCause(facts: KvmFacts): KvmCause {
  const row = ROWS.find(({ applies }) => applies(facts));
  if (row === undefined) throw new Error('the last cause fits every host');
  return { id: row.id, detail: row.detail(facts), remedy: row.remedy(facts) };
}
