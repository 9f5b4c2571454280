/** A container's configuration as `podman run` and `docker run` take it, which share their words: podman-run(1), docker-run(1). */
import type { Capability } from './capabilities.js';
import {
  type ContainerConfig,
  DEFAULT_HOSTNAME,
  defaultEnvironment,
  type IdRange,
  type IoLimit,
  type Namespace,
  refuse,
  userOf,
  type Volume,
} from './config.js';

/** How each is told to stay in a namespace of its caller's. The one of users is the caller's unless ids are mapped. */
const SHARE_FLAGS: Readonly<Record<Exclude<Namespace, 'user' | 'net'>, string>> = {
  pid: '--pid=host',
  uts: '--uts=host',
  ipc: '--ipc=host',
  cgroup: '--cgroupns=host',
};

const DEVICE_FLAGS: readonly (readonly [key: keyof IoLimit, flag: string])[] = [
  ['readBytes', '--device-read-bps'],
  ['writeBytes', '--device-write-bps'],
  ['readOperations', '--device-read-iops'],
  ['writeOperations', '--device-write-iops'],
];

export interface RunFacts {
  readonly name: string;
  readonly capabilities: readonly Capability[];
}

/** From `run` on, up to what is run. */
export function runArguments(config: ContainerConfig, { name, capabilities }: RunFacts): string[] {
  const hostname = config.hostname ?? DEFAULT_HOSTNAME;
  const env = config.env ?? defaultEnvironment(hostname, config.terminal !== undefined);
  const { uid, gid, groups } = userOf(config);
  const shared = new Set<Namespace>(config.share);
  return [
    ...['run', '--rm', '--interactive', `--name=${name}`, '--log-driver=none'],
    ...(config.terminal === undefined ? [] : ['--tty']),
    `--network=${shared.has('net') ? 'host' : 'none'}`,
    ...Object.entries(SHARE_FLAGS)
      .filter(([namespace]) => shared.has(namespace as Namespace))
      .map(([, flag]) => flag),
    ...(shared.has('cgroup') ? [] : ['--cgroupns=private']),
    ...(shared.has('uts') ? [] : [`--hostname=${hostname}`]),
    ...[`--user=${uid}:${gid}`, `--workdir=${config.cwd ?? '/'}`],
    ...groups.map((group) => `--group-add=${group}`),
    ...Object.entries(env).map(([key, value]) => `--env=${key}=${value}`),
    ...(config.readOnly === true ? ['--read-only'] : []),
    ...(config.volumes ?? []).map(volume),
    ...(config.privileged === true
      ? ['--privileged']
      : // Their own profile of system calls stays: one that is given replaces it.
        ['--security-opt=no-new-privileges']),
    ...['--cap-drop=ALL', ...capabilities.map((capability) => `--cap-add=${capability}`)],
    ...limits(config),
  ];
}

/** @throws TsvmError for a path that would be read as more than a path. */
function volume({ source, target, readOnly }: Volume): string {
  const bad = [source, target].find((path) => path.includes(':'));
  if (bad !== undefined)
    throw refuse(`volume ${bad}: this engine takes no path with a colon`, 'leave out `engine`');
  return `--volume=${source}:${target}${readOnly === true ? ':ro' : ''}`;
}

export function mapArguments(flag: '--uidmap' | '--gidmap', ranges: readonly IdRange[]): string[] {
  return ranges.map(({ container, host, count }) => `${flag}=${container}:${host}:${count}`);
}

function limits({ limits = {} }: ContainerConfig): string[] {
  const { cpus, memoryBytes, pids, io = [] } = limits;
  return [
    ...(cpus === undefined ? [] : [`--cpus=${cpus}`]),
    ...(memoryBytes === undefined ? [] : [`--memory=${memoryBytes}b`, `--memory-swap=${memoryBytes}b`]),
    ...(pids === undefined ? [] : [`--pids-limit=${pids}`]),
    ...io.flatMap((limit) =>
      DEVICE_FLAGS.flatMap(([key, flag]) =>
        limit[key] === undefined ? [] : [`${flag}=${limit.device}:${limit[key]}`],
      ),
    ),
  ];
}
