/** Containers that run on this host, whichever process started them, by their cgroups. */
import { commandLineOf } from '../host/proc.js';
import { Cgroup, type Usage } from './cgroup.js';
import { containerNames, hostHierarchies } from './cgroup-host.js';
import { NAME_PREFIX } from './container.js';

export interface RunningContainer {
  /** Of its cgroups. */
  readonly name: string;
  /** Of the process that started it. */
  readonly makerPid: number;
  /** Of its process 1, as this process sees it. */
  readonly pid: number;
  /** What it runs: the arguments of the first process beside process 1. */
  readonly command: readonly string[];
  readonly usage: Usage;
}

/** Those that have cgroups which this process may read: a user's may have none. */
export function runningContainers(): readonly RunningContainer[] {
  const hierarchies = hostHierarchies();
  return [...containerNames(NAME_PREFIX, hierarchies)].flatMap(([name, makerPid]) => {
    const cgroup = Cgroup.ofRunning(name, hierarchies);
    const [pid, first] = cgroup.processes;
    if (pid === undefined) return []; // it has ended, or is being made
    return [
      { name, makerPid, pid, command: first === undefined ? [] : commandLineOf(first), usage: cgroup.usage },
    ];
  });
}
