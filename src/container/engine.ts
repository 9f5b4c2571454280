/**
 * The same container by other runtimes, which are installed beside tsvm, so that a comparison does not rest on ours alone.
 *
 * The launcher mounts the root, writes the bundle, and executes the runtime, all in namespaces of its own: whatever a runtime leaves
 * is gone with them.
 */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { PlanHost } from './compose.js';
import {
  type ContainerConfig,
  DEFAULT_HOSTNAME,
  defaultEnvironment,
  type Engine,
  hostRefuses,
  type IdRange,
  refuse,
} from './config.js';
import { AT_FDCWD, CLONE, ERRNO, MNT_DETACH, O, SYS } from './linux.js';
import { ociConfig } from './oci-bundle.js';
import { cStrings, type Plan, type Step } from './plan.js';
import { capabilitiesOf, EXECUTE } from './process.js';
import { mountRoot } from './root.js';
import { call, mountFs, Slots } from './steps.js';

const DEBIAN_PACKAGES: Readonly<Record<Engine, string>> = { runc: 'runc', crun: 'crun', bwrap: 'bubblewrap' };

/** Where systemd mounts version 2 on a host that has both. */
const UNIFIED = '/sys/fs/cgroup/unified';
const NO_MOUNT = [ERRNO.ENOENT, ERRNO.EINVAL];

export interface EngineFacts extends PlanHost {
  readonly uidMap: readonly IdRange[];
  readonly gidMap: readonly IdRange[];
  /** Of the container, for the runtime's own books. */
  readonly name: string;
}

/**
 * The plan that runs a container by another runtime.
 *
 * @throws TsvmError `TSVM_HOST` if it is not installed, or this is not the superuser; `TSVM_CONTAINER` for what it lacks.
 */
export function composeEnginePlan(config: ContainerConfig, engine: Engine, facts: EngineFacts): Plan {
  const program = find(engine);
  if (!facts.superuser)
    throw hostRefuses(`--engine ${engine}: it is run by the superuser only`, 'leave it out, or run as root');
  if (config.network === 'user')
    throw refuse(`--engine ${engine}: there is no user-mode network`, '--net none or host');
  if (engine === 'bwrap' && (config.uidMap ?? config.gidMap) !== undefined) {
    throw refuse('--engine bwrap: it maps one id', 'leave out --uid-map and --gid-map');
  }
  const { place } = facts;
  const { layers } = config;
  const upper = config.upper === undefined ? {} : { upper: config.upper };
  const argv = engine === 'bwrap' ? bwrapArguments(config, facts) : ociArguments(engine, facts);
  return {
    cloneFlags: CLONE.NEWNS | CLONE.NEWPID,
    ...(config.terminal === undefined ? {} : { terminal: config.terminal }),
    host: mountRoot({ place, layers, ...upper, ownAttributes: false }, true),
    init: [
      mountFs('proc', '/proc', 0),
      // crun takes cgroups of one version; where there are both, the second has no controllers, and is not missed.
      call('hide cgroups of version 2 beside version 1', SYS.umount2, [UNIFIED, MNT_DETACH], {
        ignore: NO_MOUNT,
      }),
      ...(engine === 'bwrap'
        ? []
        : writeFile(join(place, 'config.json'), bundleOf(config, facts), new Slots())),
    ],
    command: [
      call(`enter ${place}`, SYS.chdir, [place]),
      call(EXECUTE, SYS.execve, [program, cStrings(argv), cStrings([`PATH=${process.env['PATH'] ?? ''}`])]),
    ],
    cleanup: [],
  };
}

function bundleOf(config: ContainerConfig, facts: EngineFacts): string {
  return JSON.stringify(
    ociConfig(config, { ...facts, capabilities: capabilitiesOf(config, facts.capabilities) }),
  );
}

function find(engine: Engine): string {
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    const path = join(folder, engine);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // in another one, then
    }
  }
  throw hostRefuses(`--engine ${engine}: it is not installed`, `apt-get install ${DEBIAN_PACKAGES[engine]}`);
}

function writeFile(path: string, text: string, slots: Slots): Step[] {
  const file = slots.take();
  const purpose = `write ${path}`;
  return [
    call(purpose, SYS.openat, [AT_FDCWD, path, O.WRONLY | O.CREAT | O.CLOEXEC, 0o600], { into: file }),
    call(purpose, SYS.write, [file, text, Buffer.byteLength(text)]),
    call(purpose, SYS.close, [file]),
  ];
}

function ociArguments(engine: Engine, { place, name }: EngineFacts): string[] {
  // Its books are kept in the file system that goes with the container.
  return [engine, '--root', join(place, 'state'), 'run', '--bundle', place, name];
}

function bwrapArguments(config: ContainerConfig, facts: EngineFacts): string[] {
  const hostname = config.hostname ?? DEFAULT_HOSTNAME;
  const env = config.env ?? defaultEnvironment(hostname, config.terminal !== undefined);
  const { uid, gid } = config.user ?? { uid: 0, gid: 0 };
  const own = (namespace: string): boolean => config.share?.includes(namespace as never) !== true;
  const capabilities = capabilitiesOf(config, facts.capabilities);
  return [
    'bwrap',
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
