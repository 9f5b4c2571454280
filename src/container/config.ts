/** What a container is made of, and whether that can be. */
import { type Stats, statSync } from 'node:fs';
import { isAbsolute, normalize } from 'node:path';
import { TsvmError } from '../errors.js';
import { isHostname, MAX_HOSTNAME_BYTES } from '../util/hostname.js';
import { ID_RANGE, isId, MAX_GROUPS } from '../util/ids.js';
import { isVariableName } from '../util/variable-name.js';
import type { Capability } from './capabilities.js';

/** The namespaces that a container has of its own unless it shares them; its mounts are always its own. */
export const NAMESPACES = ['pid', 'net', 'uts', 'ipc', 'user', 'cgroup'] as const;
export type Namespace = (typeof NAMESPACES)[number];

/** Runtimes besides tsvm's own. */
export const ENGINES = ['runc', 'crun', 'bwrap', 'podman', 'docker'] as const;
export type Engine = (typeof ENGINES)[number];

/** A file or directory of the host's in the container. */
export interface Volume {
  /** An absolute path of the host's. */
  readonly source: string;
  /** An absolute path in the container. */
  readonly target: string;
  readonly readOnly?: boolean;
}

/** A run of ids: `count` from `container` on are `host` and those after it. */
export interface IdRange {
  readonly container: number;
  readonly host: number;
  readonly count: number;
}

/** Per second, of one block device. */
export interface IoLimit {
  /** A block device's node: /dev/vda. */
  readonly device: string;
  readonly readBytes?: number;
  readonly writeBytes?: number;
  readonly readOperations?: number;
  readonly writeOperations?: number;
}

export interface Limits {
  /** Of processor time: 0.5 is half of one CPU. At least 0.01. */
  readonly cpus?: number;
  /** What all of it may use, page cache included; swap counts as well. At least 1 MiB. */
  readonly memoryBytes?: number;
  /** Processes and threads, process 1 among them. At least 2. */
  readonly pids?: number;
  readonly io?: readonly IoLimit[];
}

export interface ContainerConfig {
  /** Directories, the lowest first. What is changed is kept apart, and thrown away. */
  readonly layers: readonly string[];
  /** A directory of the host's that keeps what is changed, in `upper/` below it, and is taken up again. */
  readonly upper?: string;
  /** Nothing can be changed but in /dev, /tmp of volumes and the like. */
  readonly readOnly?: boolean;
  readonly volumes?: readonly Volume[];
  /** The command. Empty: there is none, and the container is there for what its agent is asked to do. */
  readonly argv: readonly string[];
  /** An agent runs in it (docs/agent.md), as its superuser; with no command, it is the command. Default: none. */
  readonly agent?: boolean;
  /** All of it. Default: PATH, HOME, HOSTNAME, and TERM with a terminal. */
  readonly env?: Readonly<Record<string, string>>;
  /** An absolute path in the container. Default: /. */
  readonly cwd?: string;
  /** Make the working directory if it is missing, as an image's is. */
  readonly makeCwd?: boolean;
  /** Ids in the container; `groups`: those beside `gid`, at most 1023. Default: 0. */
  readonly user?: { readonly uid: number; readonly gid: number; readonly groups?: readonly number[] };
  /** Default: `container`. */
  readonly hostname?: string;
  /** Namespaces of this process's that the container stays in. */
  readonly share?: readonly Namespace[];
  /** Of the user namespace. Default: every id as it is for the superuser, 0 as one's own for others. */
  readonly uidMap?: readonly IdRange[];
  readonly gidMap?: readonly IdRange[];
  /** `user`: to the host's network by pasta, unprivileged. Default: none but the loopback interface. */
  readonly network?: 'none' | 'user';
  /** What the command has of them. Default: Docker's 14. */
  readonly capabilities?: readonly Capability[];
  /** No filter, every capability, the host's devices, nothing masked. */
  readonly privileged?: boolean;
  readonly limits?: Limits;
  /** The command gets a terminal; the streams of the container are its other end. */
  readonly terminal?: { readonly rows: number; readonly columns: number };
}

/** Places of the kernel's file systems in a container: nothing of an image's or a user's is mounted or made there. */
export const KERNEL_PATHS = ['/dev', '/proc', '/sys'] as const;
/** Bound of volumes: each is a descriptor of the launcher's before it is mounted. */
const MAX_VOLUMES = 128;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** mount(2) takes a page of options, of which a layer needs five bytes; overlayfs takes 500 layers. */
const MAX_LAYERS = 500;
const MIN_MEMORY_BYTES = 1 << 20;
const MIN_PIDS = 2;
const MIN_CPUS = 0.01;

/** Of a command that is told of nothing else. */
export function defaultEnvironment(hostname: string, terminal: boolean): Record<string, string> {
  return { PATH, HOME: '/root', HOSTNAME: hostname, ...(terminal ? { TERM: 'xterm' } : {}) };
}

/** Environment of the command. */
export function environmentOf(
  config: Pick<ContainerConfig, 'env' | 'hostname' | 'terminal'>,
): Readonly<Record<string, string>> {
  return config.env ?? defaultEnvironment(config.hostname ?? DEFAULT_HOSTNAME, config.terminal !== undefined);
}

export const DEFAULT_HOSTNAME = 'container';

/**
 * Looks at everything that can be looked at before anything is made.
 *
 * @throws TsvmError `TSVM_CONTAINER` that names what cannot be.
 */
export function checkContainerConfig(config: ContainerConfig): void {
  checkValues(config);
  if (config.layers.length === 0) {
    throw refuse('a container needs a root: a directory with the files of a system', '`layers: [DIR]`');
  }
  if (config.layers.length > MAX_LAYERS) {
    throw refuse(`${config.layers.length} layers are more than ${MAX_LAYERS}`, 'merge some of them');
  }
  const needsCommand = config.agent !== true;
  if (config.argv[0] === '' || (needsCommand && config.argv.length === 0))
    throw refuse('there is no command', "`argv: ['COMMAND']`");
  for (const layer of config.layers) checkDirectory('layer', layer);
  if (config.upper !== undefined) checkDirectory('upper', config.upper);
  for (const { source } of config.volumes ?? []) stats('volume', source);
  for (const { device } of config.limits?.io ?? []) {
    if (!stats('I/O limit', device).isBlockDevice()) {
      throw refuse(`I/O limit: ${device} is not a block device`, 'lsblk lists them');
    }
  }
}

/**
 * Checks what is known to be wrong without a look at the host, for a configuration whose root and command are not known yet.
 *
 * @throws TsvmError `TSVM_CONTAINER`
 */
export function checkValues(config: Omit<ContainerConfig, 'layers'>): void {
  const volumes = config.volumes ?? [];
  if (volumes.length > MAX_VOLUMES) {
    throw refuse(`${volumes.length} volumes are more than ${MAX_VOLUMES}`, 'give a directory that has them');
  }
  for (const { source, target } of volumes) {
    checkPath('volume', source);
    const place = normalize(target).replace(/\/$/, '');
    if (!isAbsolute(target) || /(^|\/)\.\.(\/|$)|\0/.test(target) || place === '') {
      throw refuse(`volume ${target}: not a place in the container`, 'an absolute path: /data');
    }
    if (KERNEL_PATHS.some((path) => `${place}/`.startsWith(`${path}/`))) throw keptPlace('volume', target);
  }
  if (config.cwd !== undefined && !isAbsolute(config.cwd)) {
    throw refuse(`working directory ${config.cwd}: not an absolute path`, 'for example /tmp');
  }
  for (const text of [...config.argv, config.cwd ?? '', ...Object.entries(config.env ?? {}).flat()]) {
    if (text.includes('\0')) throw refuse('an argument or variable has a null character in it');
  }
  for (const name of Object.keys(config.env ?? {})) {
    if (!isVariableName(name))
      throw refuse(`environment: ${JSON.stringify(name)} is not a name`, '{ NAME: value }');
  }
  checkIds(config);
  if (config.agent === true && config.argv.length === 0 && config.terminal !== undefined) {
    throw refuse('a terminal is a command’s, and there is none', "leave out `terminal`, or `argv: ['sh']`");
  }
  if (config.hostname !== undefined && !isHostname(config.hostname)) {
    const name = JSON.stringify(config.hostname);
    throw refuse(`host name ${name}: it must be 1 to ${MAX_HOSTNAME_BYTES} bytes, none of them a NUL`);
  }
  if (config.network === 'user' && config.share?.includes('net')) {
    throw refuse('a user-mode network needs a network namespace of its own', "leave out `share: ['net']`");
  }
  if (config.share?.includes('user') && (config.uidMap ?? config.gidMap) !== undefined) {
    throw refuse('ids are mapped in a user namespace only', "leave out `share: ['user']`");
  }
  checkLimits(config.limits ?? {});
}

/** User of the command, with the groups beside its own. */
export function userOf({
  user = { uid: 0, gid: 0 },
}: Pick<ContainerConfig, 'user'>): Required<NonNullable<ContainerConfig['user']>> {
  return { ...user, groups: user.groups ?? [] };
}

function checkIds(config: Omit<ContainerConfig, 'layers'>): void {
  const { uidMap = [], gidMap = [] } = config;
  const { uid, gid, groups } = userOf(config);
  for (const [what, id] of [
    ['uid', uid],
    ['gid', gid],
    ...groups.map((group) => ['group', group] as const),
  ] as const) {
    if (!isId(id)) throw refuse(`user: ${what} ${id} is not ${ID_RANGE}`, 'for example 1000');
  }
  if (groups.length > MAX_GROUPS) throw refuse(`user: ${groups.length} groups are more than ${MAX_GROUPS}`);
  for (const { container, host, count } of [...uidMap, ...gidMap]) {
    // The last of a run is an id, too.
    const ids = [container, host, container + count - 1, host + count - 1];
    if (!Number.isInteger(count) || count < 1 || !ids.every(isId)) {
      throw refuse(
        `ids ${container}:${host}:${count}: each must be ${ID_RANGE}`,
        'for example 0:100000:65536',
      );
    }
  }
}

function checkLimits({ cpus, memoryBytes, pids }: Limits): void {
  if (cpus !== undefined && !(cpus >= MIN_CPUS)) {
    throw refuse(`a limit of ${cpus} CPUs is below what the kernel takes`, `at least ${MIN_CPUS}`);
  }
  if (memoryBytes !== undefined && memoryBytes < MIN_MEMORY_BYTES) {
    throw refuse(`a memory limit of ${memoryBytes} bytes: nothing starts in it`, 'at least 1M');
  }
  if (pids !== undefined && !(pids >= MIN_PIDS)) {
    throw refuse(`a limit of ${pids} processes: there is no room for the command`, `at least ${MIN_PIDS}`);
  }
}

function checkDirectory(what: string, path: string): void {
  checkPath(what, path);
  if (!stats(what, path).isDirectory())
    throw refuse(
      `${what} ${path}: not a directory`,
      'unpack it, or: tsvm run --isolation container --image FILE',
    );
}

function checkPath(what: string, path: string): void {
  if (!isAbsolute(path) || path.includes('\0')) throw refuse(`${what} ${path}: not an absolute path`);
}

function stats(what: string, path: string): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    const code = (cause as { code?: string }).code;
    throw refuse(
      `${what} ${path}: ${code === 'ENOENT' ? 'there is no such file or directory' : code}`,
      'check the path',
    );
  }
}

/** The error of everything that another configuration would have avoided. */
export function refuse(message: string, hint?: string, cause?: unknown): TsvmError {
  return new TsvmError('TSVM_CONTAINER', message, { hint, cause });
}

/** The error of a path that is, or leads to, what is the container's own: `subject` is what it is the path of. */
export function keptPlace(subject: string, path: string): TsvmError {
  const kept = KERNEL_PATHS.join(', ');
  return refuse(`${subject} ${path}: it leads to the container’s own ${kept} or root`, 'another path: /data');
}

/** What this host does not let this process do. */
export function hostRefuses(message: string, hint?: string, cause?: unknown): TsvmError {
  return new TsvmError('TSVM_HOST', message, { hint, cause });
}
