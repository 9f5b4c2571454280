/**
 * A container's configuration as other runtimes take it: config.json (OCI runtime-spec 1.0.2, config.md).
 *
 * @spec oci-runtime-1.0.2 config.md  config.json of a bundle  #yes
 */
import { statSync } from 'node:fs';
import { type ArgumentCheck, callRules } from '../call-rules.js';
import type { Capability } from '../capabilities.js';
import { CPU_PERIOD_US, cpuQuotaUs, deviceNumbers } from '../cgroup-limits.js';
import {
  type ContainerConfig,
  DEFAULT_HOSTNAME,
  defaultEnvironment,
  type IdRange,
  type Namespace,
  userOf,
} from '../config.js';
import { ERRNO } from '../linux.js';
import { maskedPaths, READ_ONLY_PATHS } from '../masked-paths.js';

const OCI_NAMES: Readonly<Record<Namespace, string>> = {
  pid: 'pid',
  net: 'network',
  uts: 'uts',
  ipc: 'ipc',
  user: 'user',
  cgroup: 'cgroup',
};

export interface BundleFacts {
  readonly capabilities: readonly Capability[];
  /** Map of the user namespace, if it has one. */
  readonly uidMap: readonly IdRange[];
  readonly gidMap: readonly IdRange[];
}

/** The root is `root` beside it. */
export function ociConfig(config: ContainerConfig, { capabilities, uidMap, gidMap }: BundleFacts): object {
  const hostname = config.hostname ?? DEFAULT_HOSTNAME;
  const env = config.env ?? defaultEnvironment(hostname, config.terminal !== undefined);
  const names = capabilities.map((name) => `CAP_${name}`);
  const { uid, gid, groups } = userOf(config);
  const shared = new Set<Namespace>(config.share);
  const effective = uid === 0 ? names : [];
  const privileged = config.privileged === true;
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: config.terminal !== undefined,
      user: { uid, gid, ...(groups.length === 0 ? {} : { additionalGids: [gid, ...groups] }) },
      args: config.argv,
      env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
      cwd: config.cwd ?? '/',
      capabilities: { bounding: names, effective, permitted: effective },
      noNewPrivileges: !privileged,
    },
    root: { path: 'root', readonly: config.readOnly === true },
    ...(shared.has('uts') ? {} : { hostname }),
    mounts: mounts(config),
    linux: {
      namespaces: [
        { type: 'mount' },
        ...(Object.keys(OCI_NAMES) as Namespace[])
          .filter((name) => !shared.has(name))
          .map((name) => ({ type: OCI_NAMES[name] })),
      ],
      ...(shared.has('user') ? {} : { uidMappings: mappings(uidMap), gidMappings: mappings(gidMap) }),
      resources: resources(config),
      ...(privileged
        ? {}
        : { seccomp: ociSeccomp(capabilities), maskedPaths: maskedPaths(), readonlyPaths: READ_ONLY_PATHS }),
    },
  };
}

function mounts(config: ContainerConfig): object[] {
  const noPrograms = ['nosuid', 'nodev', 'noexec'];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: noPrograms },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=64k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: [...noPrograms, 'mode=1777', 'size=64m'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: noPrograms },
    config.share?.includes('net') === true
      ? { destination: '/sys', type: 'none', source: '/sys', options: [...noPrograms, 'rbind', 'ro'] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...noPrograms, 'ro'] },
    ...(config.volumes ?? []).map(({ source, target, readOnly }) => ({
      destination: target,
      type: 'bind',
      source,
      options: ['rbind', 'nosuid', 'nodev', readOnly === true ? 'ro' : 'rw'],
    })),
  ];
}

function resources({ limits = {} }: ContainerConfig): object {
  const { cpus, memoryBytes, pids, io = [] } = limits;
  const throttle = (key: 'readBytes' | 'writeBytes' | 'readOperations' | 'writeOperations'): object[] =>
    io.flatMap((limit) => {
      const rate = limit[key];
      if (rate === undefined) return [];
      const [major, minor] = deviceNumbers(statSync(limit.device).rdev).split(':').map(Number);
      return [{ major, minor, rate }];
    });
  return {
    devices: [{ allow: false, access: 'rwm' }],
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes, swap: memoryBytes } }),
    ...(cpus === undefined ? {} : { cpu: { quota: cpuQuotaUs(cpus), period: CPU_PERIOD_US } }),
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
    ...(io.length === 0
      ? {}
      : {
          blockIO: {
            throttleReadBpsDevice: throttle('readBytes'),
            throttleWriteBpsDevice: throttle('writeBytes'),
            throttleReadIOPSDevice: throttle('readOperations'),
            throttleWriteIOPSDevice: throttle('writeOperations'),
          },
        }),
  };
}

/**
 * The filter of system calls: the same rules as tsvm's own, as a list of what is allowed (config-linux.md#seccomp).
 *
 * What a runtime's libseccomp does not know is refused with EPERM; runc itself answers ENOSYS to calls newer than the list.
 */
export function ociSeccomp(capabilities: readonly Capability[]): object {
  const rules = callRules(capabilities);
  const allow = 'SCMP_ACT_ALLOW';
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: ERRNO.EPERM,
    architectures: ['SCMP_ARCH_X86_64'],
    syscalls: [
      { names: rules.filter(({ errno }) => errno === undefined).map(({ name }) => name), action: allow },
      ...rules.flatMap(({ name, check }) =>
        check === undefined
          ? []
          : ociArguments(check).map((args) => ({ names: [name], action: allow, args })),
      ),
      {
        names: rules.filter(({ errno }) => errno === ERRNO.ENOSYS).map(({ name }) => name),
        action: 'SCMP_ACT_ERRNO',
        errnoRet: ERRNO.ENOSYS,
      },
    ],
  };
}

/** The check as rules of which one is enough: runtimes take one comparison of an argument in a rule. */
function ociArguments(check: ArgumentCheck): object[][] {
  switch (check.kind) {
    case 'one of':
      return check.values.map((value) => [{ index: 0, value, op: 'SCMP_CMP_EQ' }]);
    case 'none of':
      return [[{ index: 0, value: check.bits, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }]];
  }
}

function mappings(ranges: readonly IdRange[]): object[] {
  return ranges.map(({ container, host, count }) => ({ containerID: container, hostID: host, size: count }));
}
