/** What a booted guest with nothing to do costs: CPU time of the whole process, and why. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Benchmark, needsGuest } from '../lib/benchmark.js';
import { bootGuest, cpuSeconds, guestConfig } from '../lib/guest.js';

const WINDOW_SECONDS = 10;
/** The guest's kernel still works for a while after its command started. */
const SETTLE_SECONDS = 5;
const TARGET_PERCENT = 1;

export const idleCpu: Benchmark = {
  name: 'idle-cpu',
  summary: 'CPU time and exits of a booted guest whose command sleeps',
  defaultRuns: () => 3,
  unfit: needsGuest,
  async run({ host, runs, log }) {
    await using machine = await bootGuest(guestConfig(host, ['sleep', '1000000']));
    log('booted');
    await sleep(SETTLE_SECONDS * 1000);
    const percent: number[] = [];
    const rates = new Map<string, number[]>();
    for (let i = 0; i < runs; i++) {
      const before = { ...machine.timeline(), cpu: cpuSeconds(), at: performance.now() };
      await sleep(WINDOW_SECONDS * 1000);
      const after = { ...machine.timeline(), cpu: cpuSeconds(), at: performance.now() };
      const seconds = (after.at - before.at) / 1000;
      percent.push((100 * (after.cpu - before.cpu)) / seconds);
      const rate = (name: string, difference: number): void => {
        rates.set(name, [...(rates.get(name) ?? []), difference / seconds]);
      };
      rate('exits to JavaScript', after.exits.toJavaScript - before.exits.toJavaScript);
      for (const name of COUNTERS)
        rate(`${name} of KVM`, (after.kvmStats?.[name] ?? 0) - (before.kvmStats?.[name] ?? 0));
      log(`window ${i + 1} of ${runs}: ${percent.at(-1)?.toFixed(2)} %`);
    }
    return [
      {
        metric: 'CPU of an idle machine',
        unit: '% of a core',
        samples: percent,
        ...(host.profile === 'pvm' ? {} : { target: { atMost: TARGET_PERCENT } }),
      },
      ...[...rates].map(([metric, samples]) => ({ metric, unit: 'per second', samples })),
    ];
  },
};

/** Those of KVM's counters that say why an idle guest wakes up. */
const COUNTERS = ['exits', 'halt_exits', 'halt_wakeup', 'irq_injections', 'insn_emulation'];
