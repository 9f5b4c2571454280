/** A container from its configuration to its end. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Duplex, Readable, Writable } from 'node:stream';
import { TsvmError } from '../errors.js';
import { statusField } from '../host/proc.js';
import { type Abortable, untilAborted } from '../util/abort.js';
import { Cleanup } from '../util/cleanup.js';
import { nativeFile, nativeRemedy } from '../util/package-file.js';
import { AgentSocket, sweepAgentSockets } from './agent/socket.js';
import { Cgroup, type Usage } from './cgroup.js';
import { hostHierarchies, sweepCgroups } from './cgroup-host.js';
import { composePlan, type PlanHost } from './compose.js';
import { type ContainerConfig, checkContainerConfig, type Engine, type IdRange, refuse } from './config.js';
import { copyLayers, mountsOverlayForUsers, removeCopy, sweepCopies } from './copied-root.js';
import { DockerImage, removeDockerContainer } from './engines/docker-image.js';
import { composeEnginePlan, findEngine } from './engines/engine.js';
import { type ExitStatus, Launch, type Streams } from './launcher.js';
import { SIGKILL } from './linux.js';
import { openUpper, pathOfUpper } from './upper.js';
import { networkUser, UserNetwork } from './user-network.js';

/** Of the cgroups, by which a later container finds what was left behind, and others what runs. */
export const NAME_PREFIX = 'tsvm-';
const GROUP_OF_TERMINALS = 5;

/** What a container is made with besides its configuration. */
export interface ContainerHost extends Abortable {
  /** The launcher's executable; an empty directory `container-root` is beside it. Default: the package's. */
  readonly launcher?: string;
  /** Another runtime that runs it instead of ours. It has the same namespaces, files, limits and rights, as far as it knows them. */
  readonly engine?: Engine;
  /** What docker runs, if it was imported before. Default: the one layer, imported for this container alone. */
  readonly dockerImage?: { readonly id: string };
  /** Whether the layers are copied instead of mounted over one another. Default: for users of a kernel before 5.11, which cannot. */
  readonly copy?: boolean;
}

/** How a container ended and what it had used. */
export interface ContainerEnd {
  readonly status: ExitStatus;
  /** The kernel ended a process of it because the memory limit was reached. */
  readonly outOfMemory: boolean;
  /** Error of a file that the command inherited as an output and that took no more of it, if there was one: `ENOSPC`. */
  readonly lostOutput?: string;
  readonly usage: Usage;
}

/**
 * A command in namespaces of its own, running.
 *
 * @example
 * ```ts
 * import { startContainer } from 'tsvm';
 *
 * await using container = await startContainer({ layers: ['/srv/root'], argv: ['sh', '-c', 'id'] });
 * container.stdout?.pipe(process.stdout);
 * console.log(await container.wait()); // { status: { kind: 'exited', ... }, outOfMemory: false, usage: ... }
 * ```
 */
export class Container implements AsyncDisposable {
  /** By which another runtime knows it. */
  readonly name: string;
  /** Of process 1, as the host sees it; with another runtime, of what keeps that. */
  readonly pid: number;
  readonly #launch: Launch;
  readonly #cgroup: Cgroup;
  readonly #end: Promise<ContainerEnd>;

  readonly #agent: AgentSocket | undefined;

  constructor(
    name: string,
    pid: number,
    launch: Launch,
    cgroup: Cgroup,
    cleanup: Cleanup,
    agent: AgentSocket | undefined,
  ) {
    this.#agent = agent;
    this.name = name;
    this.pid = pid;
    this.#launch = launch;
    this.#cgroup = cgroup;
    this.#end = launch.ended.then(async (status) => {
      const usage = cgroup.usage;
      await cleanup.run();
      const { lostOutput } = launch;
      return {
        status,
        usage,
        outOfMemory: (usage.oomKills ?? 0) > 0,
        ...(lostOutput === undefined ? {} : { lostOutput }),
      };
    });
    this.#end.catch(() => {}); // told to whoever waits
  }

  /** Of the launcher, below which all its processes are. */
  get launcherPid(): number {
    return this.#launch.pid;
  }

  /** Pipes to the command, unless it inherited this process's. */
  get stdin(): Writable | null {
    return this.#launch.stdin;
  }

  get stdout(): Readable | null {
    return this.#launch.stdout;
  }

  get stderr(): Readable | null {
    return this.#launch.stderr;
  }

  /** So far. */
  get usage(): Usage {
    return this.#cgroup.usage;
  }

  /** Sends the command a signal, by its number in Linux; SIGKILL, 9, ends the container. */
  signal(number: number): void {
    this.#launch.signal(number);
  }

  /**
   * Makes a new connection to its agent (docs/agent.md).
   *
   * @throws TsvmError `TSVM_STATE` if it was started without one, or has ended.
   */
  async dialAgent(options: Abortable = {}): Promise<Duplex> {
    if (this.#agent === undefined) {
      throw new TsvmError('TSVM_STATE', 'this container has no agent', {
        hint: 'start it with `agent: true`',
      });
    }
    return await this.#agent.dial(options);
  }

  /** Resolves when nothing of it is left; an abort ends the wait alone. */
  async wait({ signal }: Abortable = {}): Promise<ContainerEnd> {
    return await untilAborted(signal, () => this.#end);
  }

  /** Ends it, if it runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.signal(SIGKILL);
    await this.#end;
  }
}

/**
 * Starts a container; resolves when its command runs.
 *
 * @param streams - `inherit`: the command has this process's
 * @throws TsvmError `TSVM_CONTAINER`: what cannot be, before or while it is made; nothing is left then.
 * @throws ExecuteError if the command cannot be executed in it.
 */
export async function startContainer(
  asked: ContainerConfig,
  host: ContainerHost = {},
  streams: Streams = 'pipe',
): Promise<Container> {
  const { signal } = host;
  signal?.throwIfAborted();
  checkContainerConfig(asked);
  const launcher = host.launcher ?? nativeFile('container-launcher');
  const place = join(dirname(launcher), 'container-root');
  if (!existsSync(launcher) || !existsSync(place)) {
    throw refuse(`the launcher ${launcher} is missing`, nativeRemedy());
  }
  const superuser = process.geteuid?.() === 0;
  const cleanup = new Cleanup();
  try {
    const hierarchies = hostHierarchies();
    sweepCgroups(NAME_PREFIX, isAlive, hierarchies);
    if (asked.agent === true) sweepAgentSockets(isAlive);
    // Its number would come again with a clock that steps back; this does not.
    const name = `${NAME_PREFIX}${process.pid}-${randomBytes(4).readUInt32LE()}`;
    // OCI runtimes make cgroups of their own, with these limits.
    const cgroup =
      host.engine === undefined || host.engine === 'bwrap'
        ? Cgroup.create(name, asked.limits ?? {}, hierarchies)
        : Cgroup.ofAnotherRuntime(name, hierarchies);
    cleanup.defer(() => cgroup.remove());
    const copied = host.copy ?? (!superuser && !mountsOverlayForUsers());
    const config = copied ? await copiedConfig(asked, cleanup, signal) : withUpper(asked, superuser, cleanup);
    const maps = mapsOf(config, superuser);
    const { engine } = host;
    const image =
      engine === 'docker' ? (host.dockerImage ?? (await ownImage(config, cleanup, signal))) : undefined;
    if (engine === 'docker') cleanup.defer(() => removeDockerContainer(name));
    const agent = config.agent === true ? await AgentSocket.make() : undefined;
    cleanup.defer(() => agent?.remove());
    const facts = {
      superuser,
      capabilities: heldCapabilities(),
      copied,
      place,
      cgroups: cgroup.directories,
      unified: cgroup.unified,
      terminalGroup: maps === undefined || isMapped(maps.gid, GROUP_OF_TERMINALS),
      isDirectory: (path: string) => statSync(path).isDirectory(),
      ...(agent === undefined ? {} : { agent: agentParts(launcher, agent) }),
    };
    const plan =
      engine === undefined
        ? composePlan(config, facts)
        : composeEnginePlan(config, engine, {
            ...facts,
            name,
            uidMap: maps?.uid ?? [],
            gidMap: maps?.gid ?? [],
            ...(image === undefined ? {} : { dockerImage: image.id }),
          });
    const launch = new Launch(launcher, plan, config.argv[0] ?? 'agent', streams);
    cleanup.defer(async () => {
      launch.signal(SIGKILL);
      await launch.ended;
    });
    const pid = await untilAborted(signal, () => launch.created);
    if (maps !== undefined && engine === undefined) writeMaps(pid, maps, superuser);
    cgroup.add(pid);
    if (config.network === 'user') {
      const user = superuser && maps !== undefined ? networkUser(maps.uid, maps.gid) : undefined;
      const network = await UserNetwork.attach(launcher, pid, user, signal);
      cleanup.defer(() => network.close());
    }
    launch.go();
    await untilAborted(signal, () => launch.running);
    return new Container(name, pid, launch, cgroup, cleanup, agent);
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

/** The program is built beside the launcher. */
function agentParts(launcher: string, { path, folder }: AgentSocket): PlanHost['agent'] & object {
  const program = join(dirname(launcher), 'agent');
  if (!existsSync(program)) throw refuse(`the agent ${program} is missing`, nativeRemedy());
  return { program: readFileSync(program), socketPath: path, socketFolder: folder };
}

function withUpper(config: ContainerConfig, superuser: boolean, cleanup: Cleanup): ContainerConfig {
  if (config.upper === undefined) return config;
  const folder = openUpper(config.upper);
  cleanup.defer(() => folder[Symbol.dispose]());
  return { ...config, upper: pathOfUpper(folder, superuser) };
}

async function copiedConfig(
  config: ContainerConfig,
  cleanup: Cleanup,
  signal: AbortSignal | undefined,
): Promise<ContainerConfig> {
  if (config.upper !== undefined) {
    throw refuse(
      'an upper directory needs an overlay, which this kernel does not mount for users',
      'as root',
    );
  }
  sweepCopies(isAlive);
  const copy = await copyLayers(config.layers, signal);
  cleanup.defer(() => removeCopy(copy));
  return { ...config, layers: [copy] };
}

async function ownImage(
  config: ContainerConfig,
  cleanup: Cleanup,
  signal: AbortSignal | undefined,
): Promise<DockerImage> {
  const [root = '', ...more] = config.layers;
  if (more.length > 0 || config.upper !== undefined) {
    throw refuse('engine docker: it takes one layer, and keeps nothing', 'give one: `layers: [DIR]`');
  }
  findEngine('docker');
  const image = await DockerImage.import(root);
  cleanup.defer(() => image[Symbol.asyncDispose]());
  signal?.throwIfAborted();
  return image;
}

interface IdMaps {
  readonly uid: readonly IdRange[];
  readonly gid: readonly IdRange[];
}

/** Undefined: the container has no user namespace of its own. */
function mapsOf(config: ContainerConfig, superuser: boolean): IdMaps | undefined {
  if (config.share?.includes('user')) return undefined;
  const own = (id: number | undefined): IdRange[] => [{ container: 0, host: id ?? 0, count: 1 }];
  return {
    uid: config.uidMap ?? (superuser ? allIds('uid_map') : own(process.geteuid?.())),
    gid: config.gidMap ?? (superuser ? allIds('gid_map') : own(process.getegid?.())),
  };
}

/** Every id that there is where this process runs, as it is. */
function allIds(file: 'uid_map' | 'gid_map'): IdRange[] {
  return readFileSync(`/proc/self/${file}`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .map(([id = 0, , count = 0]) => ({ container: id, host: id, count }));
}

function isMapped(ranges: readonly IdRange[], id: number): boolean {
  return ranges.some(({ container, count }) => id >= container && id < container + count);
}

function writeMaps(pid: number, maps: IdMaps, superuser: boolean): void {
  const write = (file: string, text: string): void => {
    try {
      writeFileSync(`/proc/${pid}/${file}`, text);
    } catch (cause) {
      throw refuse(
        `the kernel refuses ${JSON.stringify(text)} in ${file}: ${(cause as { code?: string }).code}`,
        superuser ? 'ranges must not overlap' : 'without root, one id can be mapped: to oneself',
        cause,
      );
    }
  };
  const lines = (ranges: readonly IdRange[]): string =>
    ranges.map(({ container, host, count }) => `${container} ${host} ${count}`).join('\n');
  // user_namespaces(7): who is not privileged gives up setgroups first.
  if (!superuser) write('setgroups', 'deny');
  write('uid_map', lines(maps.uid));
  write('gid_map', lines(maps.gid));
}

function heldCapabilities(): bigint {
  return BigInt(`0x${statusField('self', 'CapPrm') ?? '0'}`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== 'ESRCH';
  }
}
