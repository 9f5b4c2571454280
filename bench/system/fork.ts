/** Forks of a booted Linux: how long 1, 10 and 100 take, and what each costs in memory. And differential saves. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Machine, restoreMachine } from '../../src/index.js';
import { bootToReady } from '../../src/template/template.js';
import { MIB } from '../../src/util/units.js';
import { type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { guestConfig } from '../lib/guest.js';
import { readProcessMemory } from '../lib/process-memory.js';

const COUNTS = [1, 10, 100];
const MS_TARGET_100 = 100;
const SLOPE_TARGET_MIB = 0.3;
/** What a guest does when it wakes up, it has done by then. */
const SETTLE_MS = 3000;

export const fork: Benchmark = {
  name: 'fork',
  summary: 'forks of a booted machine: time, and memory beyond what the guest writes',
  defaultRuns: () => 5,
  unfit: needsGuest,
  async run({ host, runs, scratch, log }) {
    const { command: _command, ...config } = guestConfig(host, ['true']);
    await using parent = await bootToReady({ ...config, channel: true });
    await parent.pause();
    const measurements: Measurement[] = [];
    for (const count of COUNTS) {
      for (const prepared of [true, false]) {
        const samples: number[] = [];
        for (let run = 0; run < runs; run++) {
          if (prepared) await parent.prepareForks(count);
          const start = performance.now();
          const forks = await parent.fork(count);
          samples.push(performance.now() - start);
          await Promise.all(forks.map((machine) => machine.kill()));
        }
        measurements.push({
          metric: `${count} ${count === 1 ? 'fork' : 'forks'}, ${prepared ? 'VMs prepared' : 'from nothing'}`,
          unit: 'ms',
          samples,
          ...(count === 100 && prepared ? { target: { atMost: MS_TARGET_100 } } : {}),
        });
        log(`${count} forks, prepared ${prepared}: ${samples.map((ms) => ms.toFixed(1)).join(' ')} ms`);
      }
    }
    const before = await settled();
    const forks: Machine[] = await parent.fork(100);
    const after = await settled();
    const per = (key: 'pssBytes' | 'privateBytes' | 'guestCopiedBytes'): number =>
      (after[key] - before[key]) / 100 / MIB;
    measurements.push(
      {
        metric: 'PSS per fork, guest RAM apart',
        unit: 'MiB',
        samples: [per('pssBytes')],
        target: { atMost: SLOPE_TARGET_MIB },
      },
      { metric: 'private per fork, guest RAM apart', unit: 'MiB', samples: [per('privateBytes')] },
      { metric: 'guest RAM written per fork', unit: 'MiB', samples: [per('guestCopiedBytes')] },
    );
    await Promise.all(forks.map((machine) => machine.kill()));
    const base = join(scratch, 'base');
    const full = await parent.snapshot(base);
    await using restored = await restoreMachine(base);
    await restored.start();
    await sleep(SETTLE_MS);
    const differential = await restored.snapshot(join(scratch, 'difference'), { differential: true });
    for (const [name, { pauseMs, totalMs, memoryBytes }] of [
      ['full', full],
      ['differential', differential],
    ] as const) {
      measurements.push(
        { metric: `${name} save, pause`, unit: 'ms', samples: [pauseMs] },
        { metric: `${name} save, in all`, unit: 'ms', samples: [totalMs] },
        { metric: `${name} save, memory`, unit: 'MiB', samples: [memoryBytes / MIB] },
      );
    }
    return measurements;
  },
};

async function settled() {
  await sleep(SETTLE_MS);
  globalThis.gc?.();
  return readProcessMemory();
}
