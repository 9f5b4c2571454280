/** Checks of the surroundings in which this process, and so a monitor that is started likewise, runs: its rights and its bounds. */
import { dirname, join } from 'node:path';
import type { HostTree } from '../host-tree.js';
import { MIN_OPEN_FILES, readLimit } from '../process-limits.js';
import { effectiveCapabilities } from '../process-rights.js';
import { check, type HostCheck, holds, type Verdict, weak } from './check.js';

/** fs.nr_open of the kernel's own default: a process that may have more can take all that the host has. */
const MAX_OPEN_FILES = 1_048_576;
const CGROUPS = 'sys/fs/cgroup';
/** Bounds of a machine: its vCPUs' time, its memory, and the threads of its monitor. */
const BOUNDS = [
  { controller: 'cpu', file: 'cpu.max' },
  { controller: 'memory', file: 'memory.max' },
  { controller: 'pids', file: 'pids.max' },
] as const;

const bounded = (limit: { hard: number }): Verdict =>
  Number.isFinite(limit.hard) ? holds(`at most ${limit.hard}`) : weak('without a limit');

/** Path of this process's cgroup of version 2, below the tree; undefined without version 2. */
function ownCgroup(host: HostTree): string | undefined {
  const [, path] = /^0::(\/.*)$/m.exec(host.text('proc/self/cgroup') ?? '') ?? [];
  if (path === undefined || host.text(`${CGROUPS}/cgroup.controllers`) === undefined) return undefined;
  // Outside of this cgroup namespace: what is seen begins at the mount.
  return path.startsWith('/..') ? '/' : path;
}

/** Tells whether a file of this cgroup, or of one above it, sets a bound. */
function isBounded(host: HostTree, cgroup: string, file: string): boolean {
  for (let path = cgroup; ; path = dirname(path)) {
    const text = host.text(join(CGROUPS, path, file));
    if (text !== undefined && !text.startsWith('max')) return true;
    if (path === '/') return false;
  }
}

export const PROCESS_CHECKS: readonly HostCheck[] = [
  check({
    id: 'privileges',
    what: 'whoever takes over a monitor has its rights',
    read(host) {
      const status = host.text('proc/self/status') ?? '';
      const [, uid] = /^Uid:\s*\d+\s+(\d+)/m.exec(status) ?? [];
      const capabilities = effectiveCapabilities(host);
      return uid === undefined || capabilities === undefined ? undefined : { uid, capabilities };
    },
    judge({ uid, capabilities }) {
      if (uid === '0') return weak('tsvm runs as the superuser here');
      return capabilities === 0n
        ? holds(`user ${uid}, without capabilities`)
        : weak(`user ${uid} has capabilities`);
    },
    remedy: 'as a user of its own: useradd --system --groups kvm tsvm',
  }),
  check({
    id: 'cgroup-controllers',
    what: 'cpu, memory and pids of version 2 are what bounds a machine',
    read(host) {
      if (host.names(CGROUPS) === undefined) return undefined;
      const cgroup = ownCgroup(host);
      return cgroup === undefined ? '' : (host.text(join(CGROUPS, cgroup, 'cgroup.controllers')) ?? '');
    },
    judge(controllers) {
      const there = controllers.split(' ');
      const lacking = BOUNDS.map(({ controller }) => controller).filter((name) => !there.includes(name));
      return lacking.length === 0 ? holds('all of version 2') : weak(`not here: ${lacking.join(', ')}`);
    },
    remedy: 'systemd-run --user --scope -p Delegate=yes tsvm ...',
  }),
  check({
    id: 'cgroup-limits',
    what: 'a guest uses all CPU time and memory that its monitor may have',
    read(host) {
      const cgroup = ownCgroup(host);
      if (cgroup === undefined) return undefined;
      return BOUNDS.map(({ file }) => file).filter((file) => !isBounded(host, cgroup, file));
    },
    judge: (open) =>
      open.length === 0 ? holds('CPU time, memory and threads are bounded') : weak(`no ${open.join(', ')}`),
    remedy: 'systemd-run --scope -p CPUQuota=200% -p MemoryMax=1G -p TasksMax=256',
  }),
  check({
    id: 'open-files',
    what: 'enough for a machine’s shares and sockets, and not all of the host’s',
    read: (host) => readLimit(host, 'Max open files'),
    judge({ hard }) {
      if (hard < MIN_OPEN_FILES) return weak(`${hard}: a busy guest uses them up`);
      return hard > MAX_OPEN_FILES ? weak(`${hard}: more than a host can spare`) : holds(`at most ${hard}`);
    },
    remedy: 'ulimit -Hn 20000, or LimitNOFILE=20000 in the unit',
  }),
  check({
    id: 'processes',
    what: 'a monitor that was taken over is not to fill the table of processes',
    read: (host) => readLimit(host, 'Max processes'),
    judge: bounded,
    remedy: 'ulimit -Hu 4096, or LimitNPROC=4096 and TasksMax=256 in the unit',
  }),
  check({
    id: 'locked-memory',
    what: 'tsvm locks no memory: who may lock all of it can starve the host',
    read: (host) => readLimit(host, 'Max locked memory'),
    judge: bounded,
    remedy: 'ulimit -Hl 8192, or LimitMEMLOCK=8M in the unit',
  }),
  check({
    id: 'core-dumps',
    what: 'a dump has no guest memory, but what devices and consoles had in hand',
    read(host) {
      const pattern = host.text('proc/sys/kernel/core_pattern');
      const limit = readLimit(host, 'Max core file size');
      return pattern === undefined || limit === undefined ? undefined : { pattern, limit };
    },
    judge({ pattern, limit }) {
      if (/^(\|\S*\/false\b.*|\/dev\/null)$/.test(pattern)) return holds('they are thrown away');
      // A limit of 0 keeps files from being written; a program is given the dump whatever the limit (core(5)).
      if (pattern.startsWith('|')) return weak(`they go to ${pattern.slice(1).split(' ')[0]}`);
      return limit.soft === 0
        ? holds('none: their size is limited to 0')
        : weak(`they go to a file: ${pattern}`);
    },
    remedy: 'sysctl -w "kernel.core_pattern=|/bin/false"',
  }),
];
