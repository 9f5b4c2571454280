/** Where this process's cgroups are: version 2, version 1, or some controllers in each (cgroups(7)). */
import { type Dirent, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** What is limited or counted. */
export type Controller = (typeof CONTROLLERS)[number];
/** By version 1's names; of version 2, cpu counts as well, and blkio is io. */
const CONTROLLERS = ['cpu', 'cpuacct', 'memory', 'pids', 'blkio'] as const;

/** A hierarchy in which cgroups of this process's can be made. */
export interface Hierarchy {
  readonly version: 1 | 2;
  /** Version 1: what it controls. Version 2: what it could. */
  readonly controllers: readonly string[];
  /** Of this process's cgroup. */
  readonly directory: string;
  /** Where it is mounted. */
  readonly mount: string;
}

/** From /proc/self/cgroup and /proc/self/mountinfo; `unifiedControllers` reads cgroup.controllers of a directory. */
export function parseHierarchies(
  cgroup: string,
  mountinfo: string,
  unifiedControllers: (directory: string) => readonly string[],
): readonly Hierarchy[] {
  const found: Hierarchy[] = [];
  for (const mount of parseMounts(mountinfo)) {
    const version = mount.type === 'cgroup2' ? 2 : 1;
    for (const line of cgroup.trim().split('\n')) {
      const [, names = '', path = '/'] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      // A hierarchy with a name and no controller (systemd's) has cgroups too, which other runtimes make.
      const all = names.split(',').filter((name) => name !== '');
      const controllers = all.filter((name) => !name.startsWith('name='));
      const belongs = version === 2 ? names === '' : all.some((name) => mount.options.includes(name));
      if (!belongs) continue;
      const directory = resolve(mount.point, `.${below(mount.root, path)}`);
      if (found.some((other) => other.directory === directory)) continue;
      const control = version === 2 ? unifiedControllers(mount.point) : controllers;
      found.push({ version, controllers: control, directory, mount: mount.point });
    }
  }
  return found;
}

/** A path of a hierarchy as it is seen where only `root` and what is below it is mounted. */
function below(root: string, path: string): string {
  if (path.startsWith('/..')) return '/'; // outside of this cgroup namespace
  return root !== '/' && (path === root || path.startsWith(`${root}/`)) ? path.slice(root.length) : path;
}

interface Mount {
  readonly root: string;
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** Those of cgroups, proc_pid_mountinfo(5). */
function parseMounts(mountinfo: string): readonly Mount[] {
  return mountinfo
    .split('\n')
    .map((line): Mount | undefined => {
      const [front = '', back = ''] = line.split(' - ');
      const [, , , root = '/', point = ''] = front.split(' ');
      const [type = '', , options = ''] = back.split(' ');
      if (type !== 'cgroup' && type !== 'cgroup2') return undefined;
      return { root, point: point.replace(/\\040/g, ' '), type, options: options.split(',') };
    })
    .filter((mount) => mount !== undefined);
}

/** Of this host. */
export function hostHierarchies(): readonly Hierarchy[] {
  return parseHierarchies(
    readFileSync('/proc/self/cgroup', 'utf8'),
    readFileSync('/proc/self/mountinfo', 'utf8'),
    (directory) =>
      readFileSync(join(directory, 'cgroup.controllers'), 'utf8').trim().split(/\s+/).filter(Boolean),
  );
}

/** What it controls or counts. */
export function controllersOf({ version, controllers }: Hierarchy): readonly Controller[] {
  if (version === 1) return CONTROLLERS.filter((name) => controllers.includes(name));
  return CONTROLLERS.filter((name) => controllers.includes(name === 'blkio' ? 'io' : name));
}

/**
 * The cgroup below which a new one is made.
 *
 * Of version 2, one that has processes cannot have limited children, but for the root: so the superuser's is the root, and others'
 * the nearest above this process's that was given to them.
 */
export function parentIn(hierarchy: Hierarchy): string {
  if (hierarchy.version === 1) return hierarchy.directory;
  const found = delegatedParent(hierarchy, process.geteuid?.() ?? 0, (directory) => statSync(directory).uid);
  if (found === undefined) throw new Error(`${hierarchy.directory} is not delegated to this user`);
  const control = join(found, 'cgroup.subtree_control');
  const enabled = readFileSync(control, 'utf8').trim().split(' ');
  const missing = controllersOf(hierarchy)
    .map((name) => (name === 'blkio' ? 'io' : name))
    .filter((name) => !enabled.includes(name));
  if (missing.length > 0) writeFileSync(control, missing.map((name) => `+${name}`).join(' '));
  return found;
}

/** Directory of version 2 below which a user may make cgroups, by who owns which; undefined if none was given to this user. */
export function delegatedParent(
  hierarchy: Hierarchy,
  uid: number,
  ownerOf: (directory: string) => number | undefined,
): string | undefined {
  if (uid === 0) return hierarchy.mount;
  return placesIn(hierarchy)
    .slice(1)
    .find((directory) => ownerOf(directory) === uid);
}

/** Removes cgroups of containers whose maker is no more: it and their launcher were killed at once. */
export function sweepCgroups(
  prefix: string,
  isAlive: (pid: number) => boolean,
  hierarchies: readonly Hierarchy[],
): void {
  for (const hierarchy of hierarchies) {
    for (const parent of placesIn(hierarchy)) {
      for (const name of namesIn(parent)) {
        const pid = makerOf(prefix, name);
        if (pid === undefined || isAlive(pid)) continue;
        removeTree(join(parent, name));
      }
    }
  }
}

/** Removes a cgroup, and those below it that a runtime made. @returns whether a process is in it, or has just left it. */
export function removeTree(directory: string): boolean {
  for (const { name } of subdirectories(directory)) removeTree(join(directory, name));
  try {
    rmdirSync(directory);
  } catch (error) {
    return (error as { code?: string }).code === 'EBUSY';
  }
  return false;
}

/** Where a container's cgroup may have been made: this process's own, and of version 2 those above it. */
export function placesIn({ version, directory, mount }: Hierarchy): readonly string[] {
  const parents = [directory];
  if (version === 1) return parents;
  for (let at = directory; at !== mount && at.startsWith(mount); at = dirname(at)) parents.push(dirname(at));
  return parents;
}

function subdirectories(directory: string): readonly Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  } catch {
    return [];
  }
}

/** Names of containers that have a cgroup, whoever made it, and the number of that process. */
export function containerNames(
  prefix: string,
  hierarchies: readonly Hierarchy[],
): ReadonlyMap<string, number> {
  const names = hierarchies.flatMap((hierarchy) => placesIn(hierarchy).flatMap(namesIn));
  return new Map(
    names.flatMap((name) => {
      const pid = makerOf(prefix, name);
      return pid === undefined ? [] : [[name, pid] as const];
    }),
  );
}

/** The process that made it, if that was for a container. */
function makerOf(prefix: string, name: string): number | undefined {
  const [, pid] = new RegExp(`^${prefix}(\\d+)-\\d+$`).exec(name) ?? [];
  return pid === undefined ? undefined : Number(pid);
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
