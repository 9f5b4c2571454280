/** The cgroups of one container: its limits and what it used, with the same words for version 1 and 2. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Controller,
  controllersOf,
  type Hierarchy,
  parentIn,
  placesIn,
  removeTree,
} from './cgroup-host.js';
import { settings } from './cgroup-limits.js';
import { hostRefuses, type Limits } from './config.js';

/** What a container used; what this host's kernel does not count is left out. */
export interface Usage {
  readonly cpuSeconds?: number;
  /** Now, and at most so far: all that belongs to it, page cache included. */
  readonly memoryBytes?: number;
  readonly memoryPeakBytes?: number;
  readonly pids?: number;
  readonly readBytes?: number;
  readonly writtenBytes?: number;
  /** Processes that the kernel ended because the memory limit was reached. */
  readonly oomKills?: number;
  /** For how long its processes waited because of the limit of the CPU. */
  readonly throttledSeconds?: number;
}

/** An ended process leaves its cgroup some moments after it was waited for. */
const REMOVE_ATTEMPTS = 100;
const REMOVE_WAIT_MS = 10;
const OPTIONAL_FILES: readonly string[] = ['memory.swap.max', 'memory.memsw.limit_in_bytes'];

interface Place {
  readonly directory: string;
  readonly version: 1 | 2;
}

type Places = Partial<Record<Controller, Place>>;

export class Cgroup {
  readonly #places: Readonly<Places>;
  readonly #others: readonly string[];

  private constructor(places: Readonly<Places>, others: readonly string[] = []) {
    this.#places = places;
    this.#others = others;
  }

  /** Those that another runtime makes by a name: nothing is limited or counted here, but they are removed if it did not. */
  static ofAnotherRuntime(name: string, hierarchies: readonly Hierarchy[]): Cgroup {
    const parents = hierarchies.flatMap(({ directory, mount }) => [directory, mount]);
    return new Cgroup(
      {},
      [...new Set(parents)].map((parent) => join(parent, name)),
    );
  }

  /** Those of a container that runs already, wherever it was started from. */
  static ofRunning(name: string, hierarchies: readonly Hierarchy[]): Cgroup {
    const places: Places = {};
    for (const hierarchy of hierarchies) {
      const directory = placesIn(hierarchy)
        .map((parent) => join(parent, name))
        .find((path) => existsSync(path));
      if (directory === undefined) continue;
      for (const controller of controllersOf(hierarchy)) {
        places[controller] ??= { directory, version: hierarchy.version };
      }
    }
    return new Cgroup(places);
  }

  /**
   * Makes them, with their limits.
   *
   * @throws TsvmError `TSVM_CONTAINER` if a limit is asked for that cannot be set here; without limits, there may be none.
   */
  static create(name: string, limits: Limits, hierarchies: readonly Hierarchy[]): Cgroup {
    const places: Places = {};
    let problem: unknown;
    for (const hierarchy of hierarchies) {
      const wanted = controllersOf(hierarchy).filter((controller) => places[controller] === undefined);
      if (wanted.length === 0) continue;
      try {
        const directory = join(parentIn(hierarchy), name);
        mkdirSync(directory);
        for (const controller of wanted) places[controller] = { directory, version: hierarchy.version };
      } catch (error) {
        problem ??= error;
      }
    }
    const cgroup = new Cgroup(places);
    try {
      for (const setting of settings(limits, (controller) => places[controller]?.version)) {
        cgroup.#set(...setting, problem);
      }
      return cgroup;
    } catch (error) {
      cgroup.#removeNow();
      throw error;
    }
  }

  /** That are to be removed at the end. */
  get directories(): readonly string[] {
    return [...this.#own, ...this.#others];
  }

  get #own(): readonly string[] {
    return [...new Set(Object.values(this.#places).map(({ directory }) => directory))];
  }

  /** Processes in it, as this process sees them, in the order of their numbers. */
  get processes(): readonly number[] {
    const [directory] = this.#own;
    if (directory === undefined) return [];
    try {
      return readFileSync(join(directory, 'cgroup.procs'), 'utf8')
        .trim()
        .split('\n')
        .filter(Boolean)
        .map(Number)
        .sort((a, b) => a - b);
    } catch {
      return []; // it is gone
    }
  }

  /** Whether what the container sees of cgroups is version 2. */
  get unified(): boolean {
    return this.#places.memory?.version === 2;
  }

  /** Moves a process there. @throws TsvmError `TSVM_HOST` */
  add(pid: number): void {
    for (const directory of this.#own) {
      try {
        writeFileSync(join(directory, 'cgroup.procs'), String(pid));
      } catch (cause) {
        throw hostRefuses(
          `the kernel refuses to move a process to ${directory}: ${(cause as { code?: string }).code}`,
          undefined,
          cause,
        );
      }
    }
  }

  get usage(): Usage {
    const cpu = this.#table('cpu', 'cpu.stat', 'cpu.stat');
    const events = this.#table('memory', 'memory.oom_control', 'memory.events');
    const io = this.#read('blkio', 'blkio.throttle.io_service_bytes', 'io.stat') ?? '';
    const [used, factor] =
      this.#places.cpu?.version === 2
        ? [cpu['usage_usec'], 1e-6]
        : [this.#number('cpuacct', 'cpuacct.usage', ''), 1e-9];
    const usage = {
      cpuSeconds: scaled(used, factor),
      throttledSeconds: scaled(cpu['throttled_usec'], 1e-6) ?? scaled(cpu['throttled_time'], 1e-9),
      memoryBytes: this.#number('memory', 'memory.usage_in_bytes', 'memory.current'),
      memoryPeakBytes: this.#number('memory', 'memory.max_usage_in_bytes', 'memory.peak'),
      oomKills: events['oom_kill'],
      pids: this.#number('pids', 'pids.current', 'pids.current'),
      readBytes: sum(io, /(?: Read |rbytes=)(\d+)/g),
      writtenBytes: sum(io, /(?: Write |wbytes=)(\d+)/g),
    };
    return Object.fromEntries(Object.entries(usage).filter(([, value]) => value !== undefined));
  }

  /** After the last process has ended. */
  async remove(): Promise<void> {
    for (let attempt = 0; this.#removeNow() && attempt < REMOVE_ATTEMPTS; attempt++) {
      this.#endProcesses();
      await sleep(REMOVE_WAIT_MS);
    }
  }

  /** Ends who is left: in the PID namespace of the host nobody ends with process 1. */
  #endProcesses(): void {
    // One that this process does not see has the number 0, which kill(2) takes for all of this one's group.
    for (const pid of this.processes.filter((pid) => pid > 0)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
  }

  /** Whether any is left that can be removed later. */
  #removeNow(): boolean {
    return this.directories.map((directory) => removeTree(directory)).includes(true);
  }

  #set(controller: Controller, file: string, value: string, problem: unknown): void {
    const directory = this.#places[controller]?.directory;
    if (directory === undefined) {
      throw hostRefuses(
        `a limit of ${controller}: this process can make no cgroup with that controller`,
        'as the superuser, or in a delegated cgroup: systemd-run --user --scope -p Delegate=yes COMMAND',
        problem,
      );
    }
    try {
      writeFileSync(join(directory, file), value);
    } catch (cause) {
      // Swap is counted only by kernels that were told to.
      if ((cause as { code?: string }).code === 'ENOENT' && OPTIONAL_FILES.includes(file)) return;
      throw hostRefuses(`the kernel refuses '${value}' in ${file} of cgroups`, undefined, cause);
    }
  }

  /** One of two files, as the controller's version has it; undefined if neither is there. */
  #read(controller: Controller, file1: string, file2: string): string | undefined {
    const place = this.#places[controller];
    if (place === undefined) return undefined;
    try {
      return readFileSync(join(place.directory, place.version === 1 ? file1 : file2), 'utf8');
    } catch {
      return undefined; // not in this kernel, or the cgroup is gone
    }
  }

  #number(controller: Controller, file1: string, file2: string): number | undefined {
    const text = this.#read(controller, file1, file2);
    return text === undefined ? undefined : Number(text);
  }

  #table(controller: Controller, file1: string, file2: string): Partial<Record<string, number>> {
    const lines = (this.#read(controller, file1, file2) ?? '').trim().split('\n');
    return Object.fromEntries(
      lines.map((line) => line.split(' ')).map(([key, value]) => [key, Number(value)]),
    );
  }
}

function sum(text: string, pattern: RegExp): number {
  return [...text.matchAll(pattern)].reduce((total, [, digits]) => total + Number(digits), 0);
}

function scaled(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor;
}
