import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { hostReport, isSolid } from '../../../src/cli/host-report.js';
import { HostTree } from '../../../src/host/host-tree.js';
import { examineHost, HOST_CHECKS, type HostFinding } from '../../../src/host/production/host-checks.js';

type Files = Readonly<Record<string, string>>;
type Status = HostFinding['status'];

const NOW = new Date('2026-06-01T00:00:00Z');
const CPU = 'sys/devices/system/cpu';
const FLAWS = `${CPU}/vulnerabilities`;
const SWAPS = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority';
const CGROUP = 'sys/fs/cgroup/tsvm.slice/a.scope';

const limits = (...rows: readonly (readonly [string, string, string])[]): Files => ({
  'proc/self/limits': [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    ...rows.map(([name, soft, hard]) => `${name.padEnd(26)}${soft.padEnd(21)}${hard.padEnd(21)}files     `),
  ].join('\n'),
});
const status = (uid: number, capabilities: string): Files => ({
  'proc/self/status': `Name:\tnode\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nCapEff:\t${capabilities}\n`,
});
const kernel = (built: string): Files => ({
  'proc/version': `Linux version 6.12.1 (a@b) (gcc 14) #1 SMP PREEMPT_DYNAMIC ${built}\n`,
  'proc/sys/kernel/osrelease': '6.12.1\n',
});
const cpuinfo = (revisions: readonly string[], flags = 'fpu sse'): Files => ({
  'proc/cpuinfo': revisions
    .map((revision, i) => `processor\t: ${i}\nmicrocode\t: ${revision}\nflags\t\t: ${flags}\n`)
    .join('\n'),
});
const cgroup = (files: Files = {}): Files => ({
  'proc/self/cgroup': '0::/tsvm.slice/a.scope\n',
  'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  [`${CGROUP}/cgroup.controllers`]: 'cpu memory pids\n',
  ...files,
});
const BOUNDED = { 'cpu.max': '200000 100000', 'memory.max': '1073741824', 'pids.max': '256' };
const bounds = (files: Files): Files =>
  cgroup(Object.fromEntries(Object.entries(files).map(([name, text]) => [`${CGROUP}/${name}`, `${text}\n`])));
const sysctls = (...values: readonly (readonly [name: string, value: number | string])[]): Files =>
  Object.fromEntries(values.map(([name, value]) => [`proc/sys/${name.replaceAll('.', '/')}`, `${value}\n`]));

/** Hosts for each check, with what it has to find. A check without its row fails. */
const HOSTS: Readonly<Record<string, readonly (readonly [Status, Files])[]>> = {
  smt: [
    ['holds', { [`${CPU}/smt/active`]: '0\n' }],
    ['weak', { [`${CPU}/smt/active`]: '1\n' }],
    ['unknown', { ...cpuinfo(['0x1'], 'fpu hypervisor'), [`${CPU}/smt/active`]: '0\n' }],
  ],
  mitigations: [
    ['holds', { [`${FLAWS}/mds`]: 'Not affected\n', [`${FLAWS}/l1tf`]: 'Mitigation: PTE Inversion\n' }],
    ['holds', { [`${FLAWS}/itlb_multihit`]: 'KVM: Mitigation: VMX disabled\n' }],
    ['weak', { [`${FLAWS}/mds`]: 'Vulnerable\n' }],
    ['weak', { [`${FLAWS}/mds`]: 'Mitigation: Clear CPU buffers; SMT vulnerable\n' }],
    ['weak', { [`${FLAWS}/mds`]: 'Vulnerable: Clear CPU buffers attempted, no microcode\n' }],
    ['weak', { [`${FLAWS}/spectre_v2`]: 'Mitigation: Retpolines; BHI: Vulnerable\n' }],
    ['unknown', { [`${FLAWS}/srbds`]: 'Unknown: Dependent on hypervisor status\n' }],
    ['unknown', { [`${FLAWS}/mds`]: 'Mitigation: Clear CPU buffers; SMT Host state unknown\n' }],
  ],
  microcode: [
    ['holds', { ...cpuinfo(['0xf0', '0xf0']), [`${FLAWS}/old_microcode`]: 'Not affected\n' }],
    ['holds', cpuinfo(['0xf0'])],
    ['weak', { ...cpuinfo(['0xf0']), [`${FLAWS}/old_microcode`]: 'Vulnerable\n' }],
    ['weak', cpuinfo(['0xf0', '0xee'])],
    ['unknown', cpuinfo(['0xffffffff'], 'fpu hypervisor sse')],
  ],
  'nx-huge-pages': [
    ['holds', { 'sys/module/kvm/parameters/nx_huge_pages': 'Y\n' }],
    [
      'holds',
      {
        'sys/module/kvm/parameters/nx_huge_pages': 'N\n',
        [`${FLAWS}/itlb_multihit`]: 'Not affected\n',
      },
    ],
    ['weak', { 'sys/module/kvm/parameters/nx_huge_pages': 'N\n' }],
    ['weak', { 'sys/module/kvm/parameters/nx_huge_pages': 'never\n' }],
  ],
  nested: [
    ['holds', { 'sys/module/kvm_intel/parameters/nested': 'N\n' }],
    ['holds', { 'sys/module/kvm_amd/parameters/nested': '0\n' }],
    ['weak', { 'sys/module/kvm_intel/parameters/nested': 'Y\n' }],
    ['weak', { 'sys/module/kvm_amd/parameters/nested': '1\n' }],
  ],
  'ignore-msrs': [
    ['holds', { 'sys/module/kvm/parameters/ignore_msrs': 'N\n' }],
    ['weak', { 'sys/module/kvm/parameters/ignore_msrs': 'Y\n' }],
  ],
  ksm: [
    ['holds', { 'sys/kernel/mm/ksm/run': '0\n' }],
    ['holds', { 'sys/kernel/mm/ksm/run': '2\n' }],
    ['weak', { 'sys/kernel/mm/ksm/run': '1\n' }],
  ],
  swap: [
    ['holds', { 'proc/swaps': `${SWAPS}\n` }],
    ['holds', { 'proc/swaps': `${SWAPS}\n/dev/zram0  partition\t4194300\t0\t100\n` }],
    ['weak', { 'proc/swaps': `${SWAPS}\n/dev/dm-1  partition\t999420\t0\t-2\n` }],
  ],
  'huge-pages': [
    ['holds', { 'sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n' }],
    ['weak', { 'sys/kernel/mm/transparent_hugepage/enabled': '[always] madvise never\n' }],
  ],
  ecc: [
    ['holds', { 'sys/devices/system/edac/mc/mc0/ce_count': '0\n' }],
    ['unknown', { 'sys/devices/system/edac/mc/power/control': 'auto\n' }],
  ],
  'kernel-age': [
    ['holds', kernel('Debian 6.12.1-1 (2026-04-01)')],
    ['holds', kernel('Fri May  8 14:26:20 UTC 2026')],
    ['weak', kernel('Debian 6.12.1-1 (2025-04-01)')],
    ['weak', kernel('Fri May  9 14:26:20 UTC 2025')],
    ['unknown', kernel('@0')],
    ['unknown', kernel('Debian 6.12.1-1 (2027-04-01)')],
  ],
  'kvm-device': [
    ['holds', { 'dev/kvm': '0660' }],
    ['weak', { 'dev/kvm': '0666' }],
  ],
  'user-namespaces': [
    ['holds', sysctls(['user.max_user_namespaces', 0])],
    ['holds', sysctls(['user.max_user_namespaces', 9000], ['kernel.unprivileged_userns_clone', 0])],
    [
      'holds',
      sysctls(['user.max_user_namespaces', 9000], ['kernel.apparmor_restrict_unprivileged_userns', 1]),
    ],
    ['weak', sysctls(['user.max_user_namespaces', 9000])],
    ['weak', sysctls(['user.max_user_namespaces', 9000], ['kernel.unprivileged_userns_clone', 1])],
  ],
  'unprivileged-bpf': [
    ['holds', sysctls(['kernel.unprivileged_bpf_disabled', 2])],
    ['weak', sysctls(['kernel.unprivileged_bpf_disabled', 0])],
  ],
  'perf-events': [
    ['holds', sysctls(['kernel.perf_event_paranoid', 2])],
    ['weak', sysctls(['kernel.perf_event_paranoid', -1])],
  ],
  'kernel-log': [
    ['holds', sysctls(['kernel.dmesg_restrict', 1])],
    ['weak', sysctls(['kernel.dmesg_restrict', 0])],
  ],
  'kernel-pointers': [
    ['holds', sysctls(['kernel.kptr_restrict', 1])],
    ['weak', sysctls(['kernel.kptr_restrict', 0])],
  ],
  'address-randomisation': [
    ['holds', sysctls(['kernel.randomize_va_space', 2])],
    ['weak', sysctls(['kernel.randomize_va_space', 1])],
  ],
  ptrace: [
    ['holds', sysctls(['kernel.yama.ptrace_scope', 1])],
    ['weak', sysctls(['kernel.yama.ptrace_scope', 0])],
  ],
  links: [
    ['holds', sysctls(['fs.protected_symlinks', 1], ['fs.protected_hardlinks', 1])],
    ['weak', sysctls(['fs.protected_symlinks', 1], ['fs.protected_hardlinks', 0])],
    ['unknown', sysctls(['fs.protected_symlinks', 1])],
  ],
  'planted-files': [
    ['holds', sysctls(['fs.protected_fifos', 1], ['fs.protected_regular', 2])],
    ['weak', sysctls(['fs.protected_fifos', 0], ['fs.protected_regular', 1])],
  ],
  privileges: [
    ['holds', status(1000, '0000000000000000')],
    ['weak', status(0, '000001ffffffffff')],
    ['weak', status(1000, '0000000000000400')],
  ],
  'cgroup-controllers': [
    ['holds', cgroup()],
    ['weak', cgroup({ [`${CGROUP}/cgroup.controllers`]: 'memory pids\n' })],
    ['weak', { 'proc/self/cgroup': '4:memory:/a\n0::/\n', 'sys/fs/cgroup/memory/tasks': '' }],
  ],
  'cgroup-limits': [
    ['holds', bounds(BOUNDED)],
    [
      'holds', // one of them above
      {
        ...bounds({ ...BOUNDED, 'memory.max': 'max' }),
        'sys/fs/cgroup/tsvm.slice/memory.max': '4294967296\n',
      },
    ],
    ['weak', bounds({ ...BOUNDED, 'cpu.max': 'max 100000' })],
    ['weak', cgroup()],
    ['unknown', { 'proc/self/cgroup': '4:memory:/a\n0::/\n', 'sys/fs/cgroup/memory/tasks': '' }],
  ],
  'open-files': [
    ['holds', limits(['Max open files', '1024', '20000'])],
    ['weak', limits(['Max open files', '1024', '1024'])],
    ['weak', limits(['Max open files', '1024', '1073741816'])],
    ['unknown', limits(['Max open files', 'few', 'many'])],
  ],
  processes: [
    ['holds', limits(['Max processes', '4096', '4096'])],
    ['weak', limits(['Max processes', '4096', 'unlimited'])],
  ],
  'locked-memory': [
    ['holds', limits(['Max locked memory', '8388608', '8388608'])],
    ['weak', limits(['Max locked memory', 'unlimited', 'unlimited'])],
  ],
  'core-dumps': [
    [
      'holds',
      {
        ...sysctls(['kernel.core_pattern', '|/bin/false']),
        ...limits(['Max core file size', 'unlimited', 'unlimited']),
      },
    ],
    [
      'holds',
      { ...sysctls(['kernel.core_pattern', 'core']), ...limits(['Max core file size', '0', 'unlimited']) },
    ],
    [
      'weak',
      {
        ...sysctls(['kernel.core_pattern', 'core']),
        ...limits(['Max core file size', 'unlimited', 'unlimited']),
      },
    ],
    [
      'weak',
      {
        ...sysctls(['kernel.core_pattern', '|/lib/systemd/systemd-coredump %P']),
        ...limits(['Max core file size', '0', '0']),
      },
    ],
  ],
};

const roots: string[] = [];
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

/** A host of these files. The one at dev/kvm holds its mode. */
function host(files: Files): HostTree {
  const root = mkdtempSync(join(tmpdir(), 'tsvm-host-'));
  roots.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
    if (path === 'dev/kvm') chmodSync(join(root, path), Number.parseInt(text, 8));
  }
  return new HostTree(root);
}

describe.each(HOST_CHECKS)('check $id', ({ id, what, remedy, examine }) => {
  const hosts = HOSTS[id] ?? [];

  test('finds what is well, what is not, and what it cannot know', () => {
    const found = hosts.map(([, files]) => examine(host(files), NOW).status);
    expect(found).toEqual(hosts.map(([expected]) => expected));
    expect(found).toContain('holds');
    expect(new Set(found).size).toBeGreaterThan(1);
  });

  test('passes neither an empty host nor one of nonsense', () => {
    expect(examine(host({}), NOW).status).toBe('unknown');
    if (id === 'kvm-device' || id === 'ecc') return; // a mode and a name: there is no content
    for (const [, files] of hosts) {
      const nonsense = Object.fromEntries(Object.keys(files).map((path) => [path, '?\n']));
      expect(examine(host(nonsense), NOW).status).not.toBe('holds');
    }
  });

  test('has room in a terminal of 80 columns', () => {
    for (const text of [what, remedy]) {
      expect(text.length).toBeGreaterThan(0);
      expect(text.length).toBeLessThanOrEqual(80 - '      why: '.length);
      expect(text).not.toContain('\n');
    }
  });
});

test('HostTree without a kernel’s KSM is not one that hides it', () => {
  const ksm = HOST_CHECKS.find(({ id }) => id === 'ksm');
  expect(ksm?.examine(host({ 'sys/kernel/mm/hugepages/x': '' }), NOW).status).toBe('holds');
  expect(ksm?.examine(host({ 'sys/kernel/mm/ksm/sleep_millisecs': '20' }), NOW).status).toBe('unknown');
});

test('examineHost() gives remedies for what does not hold only; each id is one row', () => {
  const good = HOST_CHECKS.map(({ id }) => HOSTS[id]?.find(([expected]) => expected === 'holds')?.[1] ?? {});
  // Limits are one file, of which each check knows its line.
  const all = Object.assign({}, ...good) as Files;
  const lines = good.flatMap((files) => files['proc/self/limits']?.split('\n').slice(1) ?? []);
  const findings = examineHost(host({ ...all, 'proc/self/limits': ['Limit', ...lines].join('\n') }), NOW);
  expect(findings.filter(({ status }) => status !== 'holds')).toEqual([]);
  expect(findings.every(({ remedy }) => remedy === undefined)).toBe(true);
  expect(isSolid(findings)).toBe(true);
  expect(hostReport(findings)).toContain('Nothing of this host weakens');

  const ids = HOST_CHECKS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect(Object.keys(HOSTS).sort()).toEqual([...ids].sort());
});

test('examineHost() of an empty host is not solid, and says so', () => {
  const findings = examineHost(host({}), NOW);
  expect(findings.map(({ status }) => status)).toEqual(HOST_CHECKS.map(() => 'unknown'));
  expect(findings.every(({ remedy }) => remedy !== undefined)).toBe(true);
  expect(isSolid(findings)).toBe(false);
  const report = hostReport(findings);
  expect(report).toContain(
    `Of ${findings.length} checks 0 found a weakness, and ${findings.length} could not be made`,
  );
  expect(report.split('\n').filter((line) => line.length > 80)).toEqual([]);
});

test('examineHost() of this host ends with a verdict on each', () => {
  for (const { status, detail } of examineHost(new HostTree(), new Date())) {
    expect(['holds', 'weak', 'unknown']).toContain(status);
    expect(detail).not.toBe('');
  }
});
