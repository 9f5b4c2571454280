/** Instructions that KVM emulates until the guest's init: what a boot costs where ring 0 is interpreted, free of noise. */
import { type Benchmark, needsGuest } from '../lib/benchmark.js';
import { guestConfig, runGuest } from '../lib/guest.js';

/** Of the project: 11.7 million is what a first lean kernel configuration cost. */
const TARGET_MILLIONS = 6;

export const bootInstructions: Benchmark = {
  name: 'boot-instructions',
  summary: 'emulated instructions until init, on a KVM that interprets ring 0',
  defaultRuns: () => 3,
  unfit: (host) =>
    needsGuest(host) ??
    (host.profile === 'pvm' ? undefined : 'only where ring 0 is interpreted (profile pvm)'),
  async run({ host, runs, log }) {
    const init: number[] = [];
    const end: number[] = [];
    const initSeconds: number[] = [];
    for (let i = 0; i < runs; i++) {
      const { phases } = await runGuest(guestConfig(host, ['true']));
      const at = (name: string) => phases.find((phase) => phase.name === name);
      init.push((at('init')?.insnEmulation ?? Number.NaN) / 1e6);
      end.push((at('end')?.insnEmulation ?? Number.NaN) / 1e6);
      initSeconds.push(((at('init')?.ms ?? Number.NaN) - (at('start')?.ms ?? Number.NaN)) / 1e3);
      log(
        `run ${i + 1} of ${runs}: ${init.at(-1)?.toFixed(3)} million in ${initSeconds.at(-1)?.toFixed(1)} s`,
      );
    }
    return [
      {
        metric: 'emulated until init',
        unit: 'million instructions',
        samples: init,
        target: { atMost: TARGET_MILLIONS },
      },
      { metric: 'emulated until power-off of `true`', unit: 'million instructions', samples: end },
      { metric: 'first instruction to init', unit: 's', samples: initSeconds },
    ];
  },
};
