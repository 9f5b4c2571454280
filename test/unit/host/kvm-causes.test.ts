import { describe, expect, test } from 'vitest';
import { KVM_CAUSE_IDS, kvmCause } from '../../../src/host/kvm/causes.js';
import { type Identity, type KvmFacts, type KvmNode, readKvmFacts } from '../../../src/host/kvm/facts.js';
import { fakeHost, type HostFiles } from '../../support/fake-host.js';

const RELEASE = '6.12.1-amd64';
const WSL2 = '5.15.167.4-microsoft-standard-WSL2';
const cpu = (flags: string, vendor = 'GenuineIntel'): HostFiles => ({
  'proc/cpuinfo': `processor\t: 0\nvendor_id\t: ${vendor}\nflags\t\t: fpu ${flags} sse\n\nprocessor\t: 1\n`,
});
const REGISTERED: HostFiles = { 'proc/misc': '232 kvm\n 59 udmabuf\n' };
const firmware = (strings: HostFiles): HostFiles =>
  Object.fromEntries(
    Object.entries(strings).map(([name, text]) => [`sys/class/dmi/id/${name}`, `${text}\n`]),
  );
const release = (name: string): HostFiles => ({ 'proc/sys/kernel/osrelease': `${name}\n` });
const groups = (...lines: readonly string[]): HostFiles => ({
  'etc/group': `${['root:x:0:', 'nogroup:x:65534:', ...lines].join('\n')}\n`,
});
const OTHER_USERS: HostFiles = { 'proc/self/ns/user': 'user:[4026532000]' };
const NAMESPACE: HostFiles = { 'proc/self/ns/pid': 'pid:[4026532001]' };
const DOCKER: HostFiles = { ...NAMESPACE, '.dockerenv': '' };
const PODMAN: HostFiles = { ...NAMESPACE, 'run/.containerenv': 'engine="podman"\n' };
const POD: HostFiles = { 'proc/self/environ': 'PATH=/bin\0KUBERNETES_SERVICE_HOST=10.0.0.1\0' };
const LXC: HostFiles = { 'run/systemd/container': 'lxc\n' };

/** A Debian with an Intel processor, whose KVM is installed and not loaded, and its user. */
const DEBIAN: HostFiles = {
  ...cpu('vmx'),
  ...release(RELEASE),
  ...groups('kvm:x:104:other'),
  'etc/passwd': 'root:x:0:0::/root:/bin/sh\nme:x:1000:1000:::/bin/sh\n',
  [`lib/modules/${RELEASE}/modules.dep`]:
    'kernel/arch/x86/kvm/kvm-intel.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz\n',
  'proc/misc': ' 59 udmabuf\n',
  'proc/self/ns/user': 'user:[4026531837]',
  'proc/self/status': 'Name:\tnode\nCapEff:\t0000000000000000\n',
  'proc/self/cgroup': '0::/user.slice/user-1000.slice/session-1.scope\n',
  'proc/self/mountinfo':
    '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:6 / /dev rw,nosuid - devtmpfs udev rw\n',
};
const ME: Identity = { uid: 1000, gids: [1000] };
const NODE: KvmNode = { kind: 'device', major: 10, minor: 232, mode: 0o660, uid: 0, gid: 104 };

interface Case {
  readonly code?: string;
  readonly syscall?: string;
  readonly node?: Partial<KvmNode>;
  readonly files?: HostFiles;
  readonly identity?: Identity;
}

/** Facts of Debian, but for what the case says. */
function factsOf({ code = 'ENOENT', syscall = 'open', node, files = {}, identity = ME }: Case): KvmFacts {
  const facts = readKvmFacts(fakeHost({ ...DEBIAN, ...files }), { syscall, code }, identity);
  return { ...facts, node: node && { ...NODE, ...node } };
}

const refused = (more: Omit<Case, 'code'> = {}): Case => ({ node: {}, ...more, code: 'EACCES' });

/** Hosts for each cause, with its remedy. A cause without one fails. */
const HOSTS: Readonly<Record<string, readonly (readonly [Case, remedy: RegExp])[]>> = {
  'not-a-device': [
    [
      { syscall: 'KVM_GET_API_VERSION', code: 'ENOTTY', node: { kind: 'regular file' } },
      /^sudo rm -r .* && sudo mknod/,
    ],
    [{ code: 'EISDIR', node: { kind: 'folder' } }, /^sudo rm -r .* && sudo mknod/],
    [{ code: 'EISDIR', node: { kind: 'folder' }, files: DOCKER }, /docker run --device/],
    [{ code: 'EACCES', node: { kind: 'regular file', mode: 0 } }, /^sudo rm -r/],
    [{ node: { kind: 'link to nothing' } }, /^sudo rm -r/],
  ],
  'another-device': [
    [
      { syscall: 'KVM_GET_API_VERSION', code: 'ENOTTY', node: { major: 1, minor: 3 } },
      /^sudo rm \/dev\/kvm && sudo mknod -m 660 \/dev\/kvm c 10 232 && sudo chgrp kvm/,
    ],
    [{ code: 'ENODEV', node: { minor: 199 }, files: groups() }, /c 10 232$/],
  ],
  'mounted-without-devices': [
    [
      refused({
        files: {
          'proc/self/mountinfo':
            '1 0 0:1 / /dev rw - tmpfs t rw\n2 1 0:6 /kvm /dev/kvm rw,nodev - devtmpfs u rw\n',
        },
      }),
      /--dev-bind/,
    ],
  ],
  'user-namespace': [
    [
      refused({
        node: { uid: 65534, gid: 65534 },
        files: { ...OTHER_USERS },
        identity: { uid: 0, gids: [0] },
      }),
      /outside/,
    ],
  ],
  'session-too-old': [
    [refused({ files: groups('kvm:x:104:other,me') }), /newgrp kvm/],
    [refused({ files: { 'etc/passwd': 'me:x:1000:104:::/bin/sh\n' } }), /newgrp kvm/],
  ],
  'not-for-a-ci-job': [
    [
      refused({ files: { 'proc/self/environ': 'HOME=/\0GITHUB_ACTIONS=true\0' } }),
      /^sudo chmod 666 \/dev\/kvm$/,
    ],
    [refused({ files: { ...groups('kvm:x:104:me'), 'proc/self/environ': 'CI=true\0' } }), /^sudo chmod 666/],
  ],
  'not-in-group': [
    [refused(), /^sudo usermod -aG kvm me, then log in again$/],
    [refused({ node: { gid: 77 }, files: groups('virt:x:77:') }), /usermod -aG virt me/],
    [refused({ files: { 'etc/passwd': '' } }), /usermod -aG kvm \$USER/],
  ],
  'container-without-group': [
    [refused({ files: DOCKER }), /docker run --device \/dev\/kvm --group-add 104$/],
    [refused({ files: PODMAN }), /keep-groups/],
    [refused({ files: POD }), /supplementalGroups: \[104\]/],
    [refused({ files: LXC }), /chmod 666/],
  ],
  'for-root-only': [
    // WSL: in the group that should own it.
    [
      refused({
        node: { gid: 0 },
        files: groups('kvm:x:104:me'),
        identity: { uid: 1000, gids: [1000, 104] },
      }),
      /^sudo chown root:kvm \/dev\/kvm && sudo chmod 660 \/dev\/kvm$/,
    ],
    [refused({ node: { gid: 0, mode: 0o600 } }), /chmod 660 \/dev\/kvm && sudo usermod -aG kvm me/],
    [refused({ node: { gid: 0 }, files: groups() }), /^sudo groupadd --system kvm && sudo chown/],
    [refused({ node: { mode: 0o640 }, identity: { uid: 1000, gids: [104] } }), /chmod 660/],
    [refused({ node: { gid: 993 } }), /chown root:kvm/],
  ],
  'security-module': [
    [refused({ node: { mode: 0o666 } }), /dmesg/],
    [refused({ identity: { uid: 1000, gids: [1000, 104] } }), /dmesg/],
    [
      refused({
        node: { gid: 0 },
        files: { 'proc/self/status': 'CapEff:\t000001ffffffffff\n' },
        identity: { uid: 0, gids: [0] },
      }),
      /^see which rule: dmesg/,
    ],
  ],
  'device-cgroup': [
    [{ code: 'EPERM', node: {}, files: { ...DOCKER, ...REGISTERED } }, /docker run --device/],
    [
      { code: 'EPERM', node: {}, files: { 'proc/self/cgroup': '0::/kubepods/pod1/a\n' } },
      /devices\.kubevirt\.io/,
    ],
    [{ code: 'EPERM', node: {} }, /DeviceAllow=/],
  ],
  'container-without-device': [
    [{ files: { ...DOCKER, ...REGISTERED } }, /docker run --device/],
    [{ files: { ...PODMAN, ...REGISTERED } }, /podman run --device/],
    [{ files: { ...LXC, ...REGISTERED } }, /lxc config device add/],
    [{ files: { ...REGISTERED, 'run/systemd/container': 'systemd-nspawn\n' } }, /systemd-nspawn --bind/],
    [{ files: { ...REGISTERED, 'proc/self/environ': 'container=oci\0' } }, /started with its host/],
    [{ files: { ...REGISTERED, 'proc/self/cgroup': '4:memory:/docker/0123abc\n0::/\n' } }, /docker/],
  ],
  'no-node': [
    [{ files: REGISTERED }, /^sudo mknod -m 660 .* && sudo chgrp kvm/],
    [{ files: { ...REGISTERED, ...OTHER_USERS } }, /sandbox .*--dev-bind/],
  ],
  wsl1: [[{ files: { ...cpu('hypervisor'), ...release('4.4.0-19041-Microsoft') } }, /wsl --set-version/]],
  wsl2: [
    [{ files: { ...cpu('hypervisor'), ...release(WSL2) } }, /nestedVirtualization=true.*wsl --shutdown/],
  ],
  'nested-off': [
    [{ files: cpu('hypervisor') }, /ask whoever runs/],
    [{ files: { ...cpu('hypervisor'), ...DOCKER } }, /ask whoever runs/],
    [{ code: 'ENODEV', node: {}, files: cpu('hypervisor') }, /ask whoever runs/],
    [{ files: { ...cpu('hypervisor'), ...firmware({ sys_vendor: 'Amazon EC2' }) } }, /metal/],
    [
      {
        files: {
          ...cpu('hypervisor'),
          ...firmware({ sys_vendor: 'Google', product_name: 'Google Compute Engine' }),
        },
      },
      /--enable-nested/,
    ],
    [
      {
        files: {
          ...cpu('hypervisor'),
          ...firmware({
            sys_vendor: 'Microsoft Corporation',
            product_name: 'Virtual Machine',
            chassis_asset_tag: '7783-7084-3265-9085-8269-3286-77',
          }),
        },
      },
      /az vm resize/,
    ],
    [
      {
        files: {
          ...cpu('hypervisor'),
          ...firmware({ sys_vendor: 'Microsoft Corporation', product_name: 'Virtual Machine' }),
        },
      },
      /ExposeVirt/,
    ],
    [{ files: { ...cpu('hypervisor'), ...firmware({ sys_vendor: 'VMware, Inc.' }) } }, /vhv\.enable/],
    [
      {
        files: {
          ...cpu('hypervisor'),
          ...firmware({ sys_vendor: 'innotek GmbH', product_name: 'VirtualBox' }),
        },
      },
      /VBoxManage/,
    ],
    [{ files: { ...cpu('hypervisor'), ...firmware({ sys_vendor: 'QEMU' }) } }, /-cpu host/],
  ],
  'no-virtualization': [
    [{ files: cpu('') }, /Intel VT-x/],
    [{ files: cpu('', 'AuthenticAMD') }, /AMD SVM/],
    [{ files: { ...cpu(''), ...DOCKER } }, /firmware/],
    [{ code: 'ENODEV', node: {}, files: cpu('', 'Some') }, /^switch virtualization on/],
  ],
  'container-host-without-kvm': [
    [{ files: DOCKER }, /^on its host: sudo modprobe kvm_intel; then .*docker run/],
    [{ code: 'ENXIO', node: {}, files: { ...LXC, ...cpu('svm') } }, /kvm_amd/],
  ],
  'module-refused': [[{ files: { 'sys/module/kvm_intel/refcnt': '0\n' } }, /dmesg \| grep -i kvm/]],
  'kernel-replaced': [[{ files: release('6.11.9') }, /^boot again/]],
  'kernel-without-kvm': [
    [{ files: { [`lib/modules/${RELEASE}/modules.dep`]: 'kernel/fs/fuse/fuse.ko:\n' } }, /linux-image-amd64/],
  ],
  'no-module': [
    [{}, /^sudo modprobe kvm_intel$/],
    [{ code: 'ENODEV', node: {} }, /^sudo modprobe kvm_intel$/],
    [{ code: 'ENXIO', node: {}, files: cpu('svm hypervisor', 'AuthenticAMD') }, /^sudo modprobe kvm_amd$/],
    [{ files: release(WSL2), identity: { uid: 0, gids: [0] } }, /boot again|modprobe/],
  ],
  unknown: [
    [{ code: 'EMFILE', node: {} }, /dmesg/],
    [{ files: { 'proc/cpuinfo': '' } }, /dmesg/],
  ],
};

describe.each(KVM_CAUSE_IDS)('kvmCause() %s', (id) => {
  test('is found on its hosts, with its remedy', () => {
    const hosts = HOSTS[id] ?? [];
    const found = hosts.map(([host]) => kvmCause(factsOf(host)));
    expect(found.map((cause) => cause.id)).toEqual(hosts.map(() => id));
    for (const [i, [, remedy]] of hosts.entries()) expect(found[i]?.remedy).toMatch(remedy);
    expect(found.length).toBeGreaterThan(0);
  });

  test('is one line, and never speaks of a profile', () => {
    for (const [host] of HOSTS[id] ?? []) {
      const { detail, remedy } = kvmCause(factsOf(host));
      expect(`${detail}${remedy}`).not.toMatch(/\n|undefined|profile|pvm/);
    }
  });
});

test('kvmCause() of a host that says nothing about itself has an answer', () => {
  for (const code of ['ENOENT', 'ENODEV', 'EACCES', 'EPERM', 'ENOTTY', 'EIO']) {
    const { detail, remedy } = kvmCause(readKvmFacts(fakeHost({}), { syscall: 'open', code }, ME));
    expect(detail).not.toBe('');
    expect(remedy).not.toBe('');
  }
});

describe('readKvmFacts()', () => {
  test('reads a user, its groups, and what is at /dev/kvm', () => {
    const tree = fakeHost({ ...DEBIAN, 'dev/kvm': '' });
    const facts = readKvmFacts(tree, { syscall: 'open', code: 'ENOENT' }, ME);
    expect(facts.node?.kind).toBe('regular file');
    expect(facts).toMatchObject({ userName: 'me', primaryGid: 1000, initialUsers: true, overrides: false });
    expect(facts.groups.find(({ name }) => name === 'kvm')).toEqual({
      name: 'kvm',
      gid: 104,
      members: ['other'],
    });
    expect(readKvmFacts(fakeHost({ 'dev/kvm/x': '' }), { syscall: 'open', code: 'EISDIR' }).node?.kind).toBe(
      'folder',
    );
  });

  test('takes a host of containers for none', () => {
    const cgroup = (path: string) =>
      readKvmFacts(fakeHost({ 'proc/self/cgroup': `0::${path}\n` }), { syscall: 'open', code: 'ENOENT' })
        .container;
    expect(cgroup('/system.slice/docker.service')).toBeUndefined();
    expect(cgroup('/system.slice/lxc-net.service')).toBeUndefined();
    expect(cgroup('/system.slice/docker-0123.scope')).toBe('docker');
    expect(cgroup('/lxc.payload.web/x')).toBe('lxc');
    // A disk that was an image keeps the mark; the namespaces are the boot's.
    const disk = fakeHost({ '.dockerenv': '', 'proc/self/ns/pid': 'pid:[4026531836]' });
    expect(readKvmFacts(disk, { syscall: 'open', code: 'ENOENT' }).container).toBeUndefined();
    expect(cgroup('/machine.slice/libpod-0123.scope')).toBe('podman');
  });
});
