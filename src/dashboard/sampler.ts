/** Looks at every machine once a second, through the control API and nothing else; and at containers, by their cgroups. */
import { statSync } from 'node:fs';
import type { Usage } from '../container/cgroup.js';
import { type RunningContainer, runningContainers } from '../container/running.js';
import { type RemoteEvent, RemoteMachine } from '../control/client/connect.js';
import { isRunning, type MachineRecord, type MachineStore } from '../control/machine-store.js';
import { type Rates, ratesBetween } from '../control/stats/rates.js';
import type { MachineStats } from '../control/stats/stats.js';

/** A machine that hangs costs this much of a look, not all of them. */
const ANSWER_MS = 900;
/** Of looks; what a sparkline can show. */
const HISTORY = 60;
const MAX_EVENTS = 100;

export interface MachineEvent {
  readonly atMs: number;
  readonly text: string;
}

/** A machine as it is shown. */
export interface View {
  readonly name: string;
  readonly record: MachineRecord;
  /** As the API has it, `Ended`, `No answer`, or `Container`. */
  state: string;
  stats: MachineStats | undefined;
  rates: Rates | undefined;
  /** How many machines its process runs: forks are in their parent's. */
  sharers: number;
  /** Of processor time, the newest last. */
  readonly cpuHistory: number[];
  readonly exitHistory: number[];
  readonly events: MachineEvent[];
  /** Of one that is a container, not a machine. */
  container?: { readonly usage: Usage; readonly atMs: number; readonly cpu: number | undefined };
}

export class Sampler {
  readonly #store: MachineStore;
  readonly #views = new Map<string, View>();
  readonly #listening = new Set<string>();
  #closed = false;

  constructor(store: MachineStore) {
    this.#store = store;
  }

  /** By name, as of the last look. */
  get views(): readonly View[] {
    return [...this.#views.values()];
  }

  async look(): Promise<void> {
    const found = this.#store.list();
    const running = found.filter(({ record }) => isRunning(record)).map(({ record }) => record.pid);
    // One that has a name is asked like a machine.
    const named = new Set(
      found.flatMap(({ record }) => (record.isolation === undefined ? [] : [record.pid])),
    );
    const containers = runningContainers().filter(({ makerPid }) => !named.has(makerPid));
    const names = new Set([...found.map(({ record }) => record.name), ...containers.map(nameOf)]);
    for (const container of containers) this.#count(container);
    for (const name of this.#views.keys()) if (!names.has(name)) this.#views.delete(name);
    await Promise.all(
      found.map(async ({ folder, record }) => {
        const view = this.#viewOf(record);
        view.sharers = running.filter((pid) => pid === record.pid).length;
        await this.#ask(view, new RemoteMachine(record.name, folder.socketPath));
      }),
    );
  }

  close(): void {
    this.#closed = true;
  }

  #viewOf(record: MachineRecord): View {
    const known = this.#views.get(record.name);
    if (known?.record.pid === record.pid && known.record.createdMs === record.createdMs) {
      return Object.assign(known, { record });
    }
    const view: View = {
      name: record.name,
      record,
      state: '',
      stats: undefined,
      rates: undefined,
      sharers: 1,
      cpuHistory: [],
      exitHistory: [],
      events: [],
    };
    this.#views.set(record.name, view);
    return view;
  }

  #count(container: RunningContainer): void {
    const { pid, command, usage } = container;
    const name = nameOf(container);
    const createdMs = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.ctimeMs ?? Date.now();
    const known = this.#views.get(name)?.record.createdMs;
    const record = { version: 1, name, pid, pidStart: '', memoryBytes: 0, cpus: 1, command } as const;
    const view = this.#viewOf({ ...record, createdMs: known ?? createdMs });
    const [before, atMs] = [view.container, Date.now()];
    const seconds = (usage.cpuSeconds ?? Number.NaN) - (before?.usage.cpuSeconds ?? Number.NaN);
    const cpu =
      before === undefined || Number.isNaN(seconds) ? undefined : (seconds * 1000) / (atMs - before.atMs);
    view.state = 'Container';
    view.container = { usage, atMs, cpu };
    remember(view.cpuHistory, cpu ?? 0, HISTORY);
  }

  async #ask(view: View, machine: RemoteMachine): Promise<void> {
    if (!isRunning(view.record)) {
      view.state = 'Ended';
      view.rates = undefined;
      return;
    }
    if (view.record.serves === true) {
      view.state = 'Serving'; // what it runs is listed for itself
      return;
    }
    void this.#listen(view, machine);
    try {
      const stats = await machine.stats(ANSWER_MS);
      view.rates = view.stats === undefined ? undefined : ratesBetween(view.stats, stats);
      view.stats = stats;
      view.state = stats.state;
      remember(view.cpuHistory, cpuOf(view) ?? 0, HISTORY);
      remember(view.exitHistory, view.rates?.exits ?? 0, HISTORY);
    } catch {
      view.state = 'No answer';
      view.rates = undefined;
    }
  }

  /** To its events, from now until it ends. */
  async #listen(view: View, machine: RemoteMachine): Promise<void> {
    const key = `${view.name} ${view.record.createdMs}`;
    if (this.#listening.has(key)) return;
    this.#listening.add(key);
    try {
      for await (const event of machine.events()) {
        if (this.#closed) return;
        addEvent(view, event);
      }
    } catch {
      // It is gone, which the next look will show.
    } finally {
      this.#listening.delete(key);
    }
  }
}

/** Of one whose process runs others, too: what its vCPUs took. */
export function cpuOf({ rates, sharers, container }: View): number | undefined {
  if (container !== undefined) return container.cpu;
  if (rates === undefined) return undefined;
  return sharers > 1 ? rates.vcpus.reduce((sum, share) => sum + share, 0) : rates.cpu;
}

/** A process that runs several costs each of them the same. */
export function costOf({ stats, sharers, container }: View): number | undefined {
  if (container !== undefined) return container.usage.memoryBytes;
  return stats === undefined ? undefined : stats.process.proportionalBytes / Math.max(1, sharers);
}

/** Containers have no names of their own. */
function nameOf({ pid }: RunningContainer): string {
  return `container-${pid}`;
}

function addEvent(view: View, { name, atMs, detail }: RemoteEvent): void {
  const text = Object.entries(detail)
    .map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ');
  remember(view.events, { atMs, text: `${name}: ${text}` }, MAX_EVENTS);
}

function remember<Value>(history: Value[], value: Value, most: number): void {
  history.push(value);
  if (history.length > most) history.shift();
}
