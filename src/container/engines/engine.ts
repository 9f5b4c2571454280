/**
 * The same container by other runtimes, which are installed beside tsvm, so that a comparison does not rest on ours alone.
 *
 * The launcher mounts the root, writes the bundle, and executes the runtime, all in namespaces of its own: whatever a runtime leaves
 * is gone with them.
 */
import { join } from 'node:path';
import { programPath } from '../../host/process/program-path.js';
import type { PlanHost } from '../compose.js';
import {
  type ContainerConfig,
  DEFAULT_HOSTNAME,
  defaultEnvironment,
  type Engine,
  hostRefuses,
  type IdRange,
  refuse,
} from '../config.js';
import { composeKeeper } from '../keeper.js';
import { AT_FDCWD, CLONE, ERRNO, MNT_DETACH, O, SYS } from '../linux.js';
import { protectDevices } from '../mounts.js';
import { cStrings, type Plan, type Step } from '../plan.js';
import { capabilitiesOf, EXECUTE } from '../process.js';
import { mountRoot } from '../root.js';
import { mapArguments, type RunFacts, runArguments } from '../run-arguments.js';
import { call, close, mountFs, Slots } from '../steps.js';
import { ociConfig } from './oci-bundle.js';

/** Debian packages of other runtimes. */
export const ENGINE_PACKAGES: Readonly<Record<Engine, string>> = {
  runc: 'runc',
  crun: 'crun',
  bwrap: 'bubblewrap',
  podman: 'podman',
  docker: 'docker.io',
};

/** Variables of this process that runtimes get: where the programs, their settings and the daemon are. */
const KEPT_VARIABLES = /^(PATH|HOME|DOCKER_.*|CONTAINER_HOST|CONTAINERS_.*)$/;

/** Place at which systemd mounts version 2 on a host that has both. */
const UNIFIED = '/sys/fs/cgroup/unified';
const NO_MOUNT = [ERRNO.ENOENT, ERRNO.EINVAL];

export interface EngineFacts extends PlanHost {
  readonly uidMap: readonly IdRange[];
  readonly gidMap: readonly IdRange[];
  /** Name of the container, for the runtime's own books. */
  readonly name: string;
  /** Id of the image that docker's daemon has of its root. */
  readonly dockerImage?: string;
}

/**
 * The plan that runs a container by another runtime.
 *
 * @throws TsvmError `TSVM_HOST` if it is not installed, or this is not the superuser; `TSVM_CONTAINER` for what it lacks.
 */
export function composeEnginePlan(config: ContainerConfig, engine: Engine, facts: EngineFacts): Plan {
  const program = findEngine(engine);
  if (!facts.superuser)
    throw hostRefuses(`engine ${engine}: it is run by the superuser only`, 'leave it out, or run as root');
  if (config.network === 'user')
    throw refuse(`engine ${engine}: there is no user-mode network`, "`network: 'none'`, or share the host's");
  if (engine === 'bwrap' && (config.uidMap ?? config.gidMap) !== undefined) {
    throw refuse('engine bwrap: it maps one id', 'leave out `uidMap` and `gidMap`');
  }
  if (engine === 'bwrap' && config.user?.groups !== undefined)
    throw refuse('engine bwrap: it leaves all groups', 'leave out `user.groups`');
  if (engine === 'docker' && (config.uidMap ?? config.gidMap) !== undefined) {
    throw refuse('engine docker: its daemon maps ids', 'leave out `uidMap` and `gidMap`');
  }
  if (config.agent === true) throw refuse(`engine ${engine}: there is no agent`, 'leave out `engine`');
  const { place } = facts;
  const { layers } = config;
  const upper = config.upper === undefined ? {} : { upper: config.upper };
  const { argv, files } = INVOCATIONS[engine](config, facts);
  const slots = new Slots();
  const pts = slots.take();
  return {
    cloneFlags: CLONE.NEWNS | CLONE.NEWPID,
    ...(config.terminal === undefined ? {} : { terminal: { ...config.terminal, pts } }),
    host: mountRoot(
      { place, layers, ...upper, memoryBytes: config.limits?.memoryBytes, ownAttributes: false },
      true,
    ),
    init: [
      mountFs('proc', '/proc', 0),
      ...(config.privileged === true ? [] : protectDevices(slots)),
      // crun takes cgroups of one version; where there are both, the second has no controllers, and is not missed.
      call('hide cgroups of version 2 beside version 1', SYS.umount2, [UNIFIED, MNT_DETACH], {
        ignore: NO_MOUNT,
      }),
      ...Object.entries(files).flatMap(([name, content]) =>
        writeFile(join(place, name), JSON.stringify(content), slots),
      ),
      call('open the terminals', SYS.openat, [AT_FDCWD, '/dev/pts', O.PATH | O.DIRECTORY | O.CLOEXEC], {
        into: pts,
      }),
    ],
    command: [
      call(`enter ${place}`, SYS.chdir, [place]),
      call(EXECUTE, SYS.execve, [program, cStrings([engine, ...argv]), cStrings(keptEnvironment())]),
    ],
    keeper: composeKeeper(),
    cleanup: [],
  };
}

/** Arguments of a runtime, and the files of JSON that it reads beside the root. */
interface Invocation {
  readonly argv: readonly string[];
  readonly files: Readonly<Record<string, object>>;
}

const INVOCATIONS: Readonly<Record<Engine, (config: ContainerConfig, facts: EngineFacts) => Invocation>> = {
  runc: ociInvocation,
  crun: ociInvocation,
  bwrap: (config, facts) => ({ argv: bwrapArguments(config, facts), files: {} }),
  podman: (config, facts) => ({ argv: [...podmanArguments(config, facts), ...config.argv], files: {} }),
  docker: (config, facts) => {
    if (facts.dockerImage === undefined) throw refuse('engine docker: its daemon has no image of the root');
    const argv = runArguments(config, runFacts(config, facts));
    // What an image says of its command is put aside: this is all of it.
    const [program = '', ...rest] = config.argv;
    return { argv: [...argv, `--entrypoint=${program}`, facts.dockerImage, ...rest], files: {} };
  },
};

function ociInvocation(config: ContainerConfig, facts: EngineFacts): Invocation {
  const { place, name } = facts;
  const capabilities = capabilitiesOf(config, facts.capabilities);
  return {
    // Its books are kept in the file system that goes with the container.
    argv: ['--root', join(place, 'state'), 'run', '--bundle', place, name],
    files: { 'config.json': ociConfig(config, { ...facts, capabilities }) },
  };
}

function runFacts(config: ContainerConfig, { name, capabilities }: EngineFacts): RunFacts {
  return { name, capabilities: capabilitiesOf(config, capabilities) };
}

/** Arguments of podman: its books are with the container, and its cgroups below one that has the container's name. */
function podmanArguments(config: ContainerConfig, facts: EngineFacts): string[] {
  const { place, name, uidMap, gidMap } = facts;
  return [
    // From the working directory, which is `place`: podman takes no long path of these.
    ...['--root=store', '--runroot=run', '--tmpdir=tmp'],
    ...['--storage-driver=vfs', '--cgroup-manager=cgroupfs', '--events-backend=none'],
    ...runArguments(config, runFacts(config, facts)),
    ...[`--cgroup-parent=/${name}`, '--cgroups=no-conmon', '--sdnotify=ignore'],
    // Nothing is in the container but what its layers have.
    ...['--unsetenv-all', '--http-proxy=false', '--no-hosts', '--passwd=false', '--read-only-tmpfs=false'],
    ...(config.share?.includes('user') === true
      ? []
      : [...mapArguments('--uidmap', uidMap), ...mapArguments('--gidmap', gidMap)]),
    ...['--rootfs', join(place, 'root')],
  ];
}

function keptEnvironment(): string[] {
  return Object.entries(process.env).flatMap(([key, value]) =>
    KEPT_VARIABLES.test(key) ? [`${key}=${value}`] : [],
  );
}

/** Finds the executable of a runtime. @throws TsvmError `TSVM_HOST` if it is not installed. */
export function findEngine(engine: Engine): string {
  const path = programPath(engine);
  if (path !== undefined) return path;
  throw hostRefuses(`engine ${engine}: it is not installed`, `apt-get install ${ENGINE_PACKAGES[engine]}`);
}

function writeFile(path: string, text: string, slots: Slots): Step[] {
  const file = slots.take();
  const purpose = `write ${path}`;
  return [
    call(purpose, SYS.openat, [AT_FDCWD, path, O.WRONLY | O.CREAT | O.CLOEXEC, 0o600], { into: file }),
    call(purpose, SYS.write, [file, text, Buffer.byteLength(text)]),
    close(file),
  ];
}

function bwrapArguments(config: ContainerConfig, facts: EngineFacts): string[] {
  const hostname = config.hostname ?? DEFAULT_HOSTNAME;
  const env = config.env ?? defaultEnvironment(hostname, config.terminal !== undefined);
  const { uid, gid } = config.user ?? { uid: 0, gid: 0 };
  const own = (namespace: string): boolean => config.share?.includes(namespace as never) !== true;
  const capabilities = capabilitiesOf(config, facts.capabilities);
  return [
    ...['--die-with-parent', '--clearenv', '--unshare-user-try'],
    ...['pid', 'net', 'uts', 'ipc', 'cgroup'].filter(own).map((name) => `--unshare-${name}`),
    ...(own('uts') ? ['--hostname', hostname] : []),
    ...[config.readOnly === true ? '--ro-bind' : '--bind', join(facts.place, 'root'), '/'],
    ...['--proc', '/proc', '--dev', '/dev', '--ro-bind', '/sys', '/sys'],
    ...(config.volumes ?? []).flatMap(({ source, target, readOnly }) => [
      readOnly === true ? '--ro-bind' : '--bind',
      source,
      target,
    ]),
    ...['--uid', String(uid), '--gid', String(gid), '--chdir', config.cwd ?? '/'],
    ...Object.entries(env).flatMap(([name, value]) => ['--setenv', name, value]),
    ...['--cap-drop', 'ALL', ...capabilities.flatMap((name) => ['--cap-add', `CAP_${name}`])],
    '--',
    ...config.argv,
  ];
}
