/** The measurements of a comparison. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { quantile, slope } from '../util/statistics.js';
import { heldTogether } from './process-tree.js';
import type { Instance, Phase, Subject } from './subject.js';

export interface StartResult {
  readonly subject: string;
  /** From the request to the program's first byte, and to its end; by run. */
  readonly firstMs: readonly number[];
  readonly exitMs: readonly number[];
  /** Medians. */
  readonly phases: readonly Phase[];
}

export interface MemoryPoint {
  readonly count: number;
  readonly pssBytes: number;
  readonly privateBytes: number;
  /** Of all their cgroups together, where they have one. */
  readonly cgroupBytes?: number;
}

export interface MemoryResult {
  readonly subject: string;
  readonly points: readonly MemoryPoint[];
  /** Of the line through the points: one more. */
  readonly slope: { readonly pssBytes: number; readonly privateBytes: number };
  /** How many fit in the budget, if one more always costs as much. */
  readonly fitting: number;
  /** Why it ended before the last count. */
  readonly problem?: string;
}

export type Progress = (text: string) => void;

/** What a program does when it wakes up, it has done by then. */
const SETTLE_MS = 1000;

/** Runs all in turn, `runs` times, each time in another order, after one round that does not count. */
export async function measureStarts(
  subjects: readonly Subject[],
  runs: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<readonly StartResult[]> {
  const samples = new Map(subjects.map(({ name }) => [name, new Samples()]));
  for (let run = 0; run <= runs; run++) {
    for (const subject of shuffled(subjects)) {
      signal.throwIfAborted();
      progress(`${run === 0 ? 'warming up' : `run ${run} of ${runs}`}: ${subject.name}`);
      const [instance, ms] = await untilAborted(signal, once(subject));
      if (run > 0) samples.get(subject.name)?.add(instance, ms);
    }
  }
  return subjects.map(({ name }) => samples.get(name)!.result(name));
}

async function once(subject: Subject): Promise<[Instance, exitMs: number]> {
  const instance = await subject.start('start');
  const { ms } = await instance.ended();
  return [instance, ms];
}

/** What is left running then ends with its subject. */
async function untilAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  work.catch(() => {}); // told to nobody after an abort
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

class Samples {
  readonly #firstMs: number[] = [];
  readonly #exitMs: number[] = [];
  readonly #phases = new Map<string, number[]>();

  add({ firstMs, phases }: Instance, exitMs: number): void {
    this.#firstMs.push(firstMs);
    this.#exitMs.push(exitMs);
    for (const { name, ms } of [...phases, { name: 'exit', ms: exitMs - firstMs }]) {
      this.#phases.set(name, [...(this.#phases.get(name) ?? []), ms]);
    }
  }

  result(subject: string): StartResult {
    const phases = [...this.#phases].map(([name, all]) => ({ name, ms: quantile(all, 0.5) }));
    return { subject, firstMs: this.#firstMs, exitMs: this.#exitMs, phases };
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}

/** What this process no longer needs says nothing of what it holds for others. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

/** Starts more and more that idle, and looks at what all of them hold beyond what this process held before. */
export async function measureMemory(
  subject: Subject,
  counts: readonly number[],
  budgetBytes: number,
  progress: Progress,
  signal: AbortSignal,
  settleMs: number = SETTLE_MS,
): Promise<MemoryResult> {
  collectGarbage();
  const before = heldTogether([process.pid]);
  const instances: Instance[] = [];
  const points: MemoryPoint[] = [];
  let problem: string | undefined;
  try {
    for (const count of counts) {
      progress(`memory of ${count}: ${subject.name}`);
      while (instances.length < count) {
        signal.throwIfAborted();
        instances.push(await untilAborted(signal, subject.start('idle')));
      }
      await sleep(settleMs);
      collectGarbage();
      const held = heldTogether([process.pid, ...instances.flatMap((instance) => instance.processes())]);
      const cgroups = instances.map((instance) => instance.cgroupBytes());
      points.push({
        count,
        pssBytes: held.proportionalBytes - before.proportionalBytes,
        privateBytes: held.privateBytes - before.privateBytes,
        ...(cgroups.includes(undefined)
          ? {}
          : { cgroupBytes: cgroups.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0) }),
      });
    }
  } catch (error) {
    if (signal.aborted) throw error;
    problem = error instanceof Error ? error.message : String(error);
  } finally {
    await Promise.all(instances.map((instance) => instance.stop()));
  }
  const line = (key: 'pssBytes' | 'privateBytes'): number =>
    points.length < 2
      ? (points[0]?.[key] ?? 0)
      : slope(points.map((point) => [point.count, point[key]] as const));
  const each = { pssBytes: line('pssBytes'), privateBytes: line('privateBytes') };
  const fitting = each.pssBytes > 0 ? Math.floor(budgetBytes / each.pssBytes) : 0;
  return {
    subject: subject.name,
    points,
    slope: each,
    fitting,
    ...(problem === undefined ? {} : { problem }),
  };
}
