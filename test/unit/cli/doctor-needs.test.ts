import { expect, test } from 'vitest';
import type { Check, NeedsHost } from '../../../src/cli/doctor/check.js';
import { type Diagnosis, render } from '../../../src/cli/doctor/diagnosis.js';
import { examineNeeds, NEEDS } from '../../../src/cli/doctor/needs.js';
import { packageFile } from '../../../src/util/package-file.js';
import { fakeHost, type HostFiles } from '../../support/fake-host.js';

const RELEASE = '6.12.1';
const limits = (name: string, amount: string): HostFiles => ({
  'proc/self/limits': `Limit                     Soft Limit           Hard Limit           Units     \n${name.padEnd(26)}${amount.padEnd(21)}${amount.padEnd(21)}bytes     \n`,
});
const sysctl = (name: string, value: number): HostFiles => ({
  [`proc/sys/${name.replaceAll('.', '/')}`]: `${value}\n`,
});
const status = (capabilities: string, seccomp = 0): HostFiles => ({
  'proc/self/status': `Uid:\t1000\nCapEff:\t${capabilities}\nSeccomp:\t${seccomp}\n`,
});
const PACKAGES = packageFile('guests/packages.txt').slice(1);
const OWN_CGROUP = 'sys/fs/cgroup/user.slice/app.slice';

/** A host that lacks nothing for a user. */
const GOOD: HostFiles = {
  'proc/sys/kernel/osrelease': `${RELEASE}\n`,
  'proc/filesystems': 'nodev\tsysfs\nnodev\toverlay\n\text4\n',
  'proc/self/ns/user': 'user:[4026531837]',
  'proc/self/cgroup': '0::/user.slice/app.slice/a.scope\n',
  'proc/self/mountinfo': '30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n',
  'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  [`${OWN_CGROUP}/cgroup.procs`]: '',
  'proc/self/net/route': 'Iface\tDestination\tGateway\neth0\t00000000\t0100A8C0\t0003\n',
  [PACKAGES]: '# of the recipe\nbc\nlibelf-dev # objtool\n',
  'var/lib/dpkg/info/bc.list': '',
  'var/lib/dpkg/info/libelf-dev:amd64.list': '',
  'usr/bin/pasta': '',
  'dev/net/tun': '',
  ...status('0000000000000000'),
};

interface Host {
  readonly files?: HostFiles;
  readonly without?: readonly string[];
  readonly uid?: number;
  /** Owner of every file. */
  readonly owner?: number;
  readonly freeBytes?: number;
  readonly writable?: boolean;
}

function host({
  files = {},
  without = [],
  uid = 1000,
  owner = uid,
  freeBytes = 2 ** 40,
  writable = true,
}: Host): NeedsHost {
  const all = Object.fromEntries(
    Object.entries({ ...GOOD, ...files }).filter(([path]) => !without.includes(path)),
  );
  return {
    files: fakeHost(all, { owner, mode: 0o666, room: { freeBytes, writable } }),
    program: (name) => (without.includes(name) ? undefined : `/usr/bin/${name}`),
    uid,
    folders: { templates: '/home/me/.cache/tsvm/templates' },
  };
}

/** Hosts that lack a need, with what is lost and what to do. A need without one fails. */
const LACKING: Readonly<Record<string, readonly (readonly [Host, lost: RegExp, fix: RegExp])[]>> = {
  xz: [[{ without: ['xz'] }, /no kernels and initramfs/, /xz-utils/]],
  bsdcat: [
    [
      { without: ['bsdcat'] },
      /^bsdcat not installed: no --image whose archives/,
      /^apt-get install libarchive-tools$/,
    ],
  ],
  mke2fs: [[{ without: ['mke2fs'] }, /no --root-disk/, /^apt-get install e2fsprogs$/]],
  'user namespaces': [
    [
      { without: ['proc/self/ns/user'], files: { 'proc/self/ns/pid': '' } },
      /kernel has none/,
      /CONFIG_USER_NS/,
    ],
    [
      { files: sysctl('user.max_user_namespaces', 0) },
      /max_user_namespaces is 0/,
      /^sudo sysctl -w user\.max/,
    ],
    [
      { files: sysctl('user.max_user_namespaces', 0), uid: 0 },
      /max_user_namespaces is 0/,
      /^sysctl -w user\.max/,
    ],
    [{ files: sysctl('kernel.unprivileged_userns_clone', 0) }, /unprivileged_userns_clone/, /clone=1$/],
    [{ files: sysctl('kernel.apparmor_restrict_unprivileged_userns', 1) }, /AppArmor/, /userns=0$/],
    [
      { files: { ...status('0', 2), 'proc/self/cgroup': '0::/docker/0123' } },
      /calls of this container are filtered/,
      /seccomp=unconfined/,
    ],
    [{ uid: 0 }, /without CAP_SYS_ADMIN/, /--privileged/],
  ],
  overlay: [
    [{ without: ['proc/filesystems'] }, /kernel has none/, /CONFIG_OVERLAY_FS/],
    [
      {
        without: ['proc/filesystems'],
        files: { [`lib/modules/${RELEASE}/modules.dep`]: 'kernel/fs/overlayfs/overlay.ko.xz:\n' },
      },
      /not loaded/,
      /^sudo modprobe overlay$/,
    ],
    [{ files: { 'proc/sys/kernel/osrelease': '5.10.0' } }, /5\.11.*copied/, /^$/],
  ],
  cgroups: [
    [{ owner: 0 }, /not delegated to this user: no --cpus, no --memory, no --pids/, /systemd-run --user/],
    [{ without: ['proc/self/mountinfo'] }, /none are mounted/, /mount -t cgroup2/],
    [{ files: { 'sys/fs/cgroup/cgroup.controllers': 'memory pids\n' } }, /no --cpus of/, /./],
    [
      { uid: 0, files: { 'proc/self/mountinfo': '30 23 0:26 / /sys/fs/cgroup ro - cgroup2 c rw\n' } },
      /not for this process/,
      /--privileged/,
    ],
    [
      {
        owner: 0,
        files: {
          'proc/self/cgroup': '4:memory:/a\n3:cpu:/a\n2:pids:/a\n',
          'proc/self/mountinfo': ['memory', 'cpu', 'pids']
            .map((name) => `30 23 0:26 / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}`)
            .join('\n'),
        },
      },
      /not delegated/,
      /./,
    ],
  ],
  engines: [
    [
      { without: ['runc', 'crun', 'bwrap', 'podman', 'docker'] },
      /no --engine/,
      /runc crun bubblewrap podman docker\.io$/,
    ],
  ],
  passt: [[{ without: ['passt'] }, /no --net user of machines/, /^apt-get install passt$/]],
  pasta: [[{ without: ['usr/bin/pasta'] }, /no --net user of containers/, /^apt-get install passt$/]],
  tun: [[{ without: ['dev/net/tun'] }, /missing: no --net tap/, /modprobe tun/]],
  route: [[{ without: ['proc/self/net/route'] }, /no default route/, /ip route/]],
  'open files': [[{ files: limits('Max open files', '1024') }, /^1024: /, /ulimit -Hn 4096/]],
  processes: [[{ files: limits('Max processes', '100') }, /^100: /, /ulimit -u 256/]],
  'address space': [
    [{ files: limits('Max address space', '1073741824') }, /no guest memory/, /ulimit -v unlimited/],
  ],
  'file size': [
    [{ files: limits('Max file size', '1048576') }, /no guest memory, disk/, /ulimit -f unlimited/],
  ],
  'guest tools': [
    [
      { without: ['var/lib/dpkg/info/bc.list'] },
      /^not installed: bc: no tsvm guest build of the default guest/,
      /^apt-get install bc$/,
    ],
    [
      { without: ['var/lib/dpkg/info/bc.list', 'var/lib/dpkg/info/libelf-dev:amd64.list'] },
      /not a Debian host/,
      /^$/,
    ],
  ],
};

const verdict = (name: string, on: Host) => NEEDS.find((need) => need.name === name)?.examine(host(on));

test.each(NEEDS)('need of $name is met on a good host, and what is lost without it is said', ({ name }) => {
  expect(verdict(name, {})?.status).toBe('yes');
  const cases = LACKING[name] ?? [];
  expect(cases.length).toBeGreaterThan(0);
  for (const [on, lost, fix] of cases) {
    const found = verdict(name, on);
    // What keeps every container from being made, and nothing else, is a failure.
    const failure = /no container can be made/.test(found?.detail ?? '');
    expect(found).toMatchObject({
      status: failure ? 'no' : 'note',
      detail: expect.stringMatching(lost),
    });
    expect(found?.fix ?? '').toMatch(fix);
    expect(`${found?.detail}${found?.fix}`).not.toContain('\n');
  }
});

test('need of every program names a Debian package; each need is one row', () => {
  expect(Object.keys(LACKING).sort()).toEqual(NEEDS.map(({ name }) => name).sort());
});

test('limits of a process are met where there are none, or this host does not say', () => {
  expect(verdict('file size', { files: limits('Max file size', 'unlimited') })?.status).toBe('yes');
  expect(verdict('open files', { files: limits('Max open files', '20000') })?.status).toBe('yes');
});

test('a device node that others may not open is not for users, but for the superuser', () => {
  const closed = (uid: number): NeedsHost => ({ ...host({ uid }), files: fakeHost(GOOD, { mode: 0o600 }) });
  const tun = NEEDS.find(({ name }) => name === 'tun');
  expect(tun?.examine(closed(1000))).toMatchObject({ status: 'note', fix: 'sudo chmod 666 /dev/net/tun' });
  expect(tun?.examine(closed(0)).status).toBe('yes');
});

test('cgroups of version 1, of the superuser or given to a user, have every limit', () => {
  const files = {
    'proc/self/cgroup': '4:memory:/\n3:cpu,cpuacct:/\n2:pids:/\n',
    'proc/self/mountinfo': ['memory', 'cpu,cpuacct', 'pids']
      .map((name) => `30 23 0:26 / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}`)
      .join('\n'),
    'sys/fs/cgroup/memory/tasks': '',
    'sys/fs/cgroup/cpu,cpuacct/tasks': '',
    'sys/fs/cgroup/pids/tasks': '',
  };
  expect(verdict('cgroups', { files, uid: 0, owner: 0 })).toMatchObject({ status: 'yes' });
  expect(verdict('cgroups', { files, uid: 1000 })).toMatchObject({ status: 'yes' });
});

test('room that is little, or another user’s, is noted', () => {
  const room = (on: Host): Check | undefined => examineNeeds(host(on)).find(({ area }) => area === 'space');
  expect(room({})).toMatchObject({ name: 'templates', status: 'yes' });
  expect(room({ freeBytes: 2 ** 20 })).toMatchObject({
    status: 'note',
    detail: expect.stringContaining('1 MiB free'),
  });
  expect(room({ writable: false })).toMatchObject({ status: 'note' });
});

test('render() groups checks by area, and says what works without a KVM', () => {
  const checks: readonly Check[] = [
    {
      area: 'machines',
      name: 'kvm',
      status: 'no',
      detail: 'cannot open /dev/kvm',
      fix: 'modprobe kvm_intel',
    },
    { area: 'containers', name: 'user namespaces', status: 'yes', detail: 'for this user' },
  ];
  const diagnosis: Diagnosis = { usable: false, containers: true, capabilities: {}, checks };
  expect(render(diagnosis)).toMatch(/^machines\n {2}FAIL {2}kvm .*\n +fix: modprobe kvm_intel\n/);
  expect(render(diagnosis)).toMatch(/\ncontainers\n {2}ok /);
  expect(render(diagnosis)).toMatch(/Machines cannot be made.*\nContainers can, and need no KVM/);
  expect(render({ ...diagnosis, containers: false })).toContain('Containers cannot: see FAIL above.');
});

test('render() wraps details for a terminal, and leaves fixes whole', () => {
  const detail = 'a detail of many words '.repeat(8).trim();
  const checks: readonly Check[] = [
    { area: 'machines', name: 'kvm', status: 'no', detail, fix: 'do '.repeat(40).trim() },
  ];
  const lines = render({ usable: false, containers: true, capabilities: {}, checks }, 80).split('\n');
  expect(lines.filter((line) => line.length > 80)).toEqual([expect.stringContaining('fix: do do')]);
  expect(lines[2]).toMatch(/^ {13}\S/);
  expect(render({ usable: false, containers: true, capabilities: {}, checks })).toContain(detail);
});
