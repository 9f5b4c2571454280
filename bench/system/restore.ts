/**
 * From a saved machine to its first instruction, to an answer, to the end of `true`: in a process that runs already, and as
 * a command, beside what container engines take for the same.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMachine, type Machine, openSavedMachine, restoreMachine } from '../../src/index.js';
import { bootToReady } from '../../src/template/template.js';
import { tiny, tinyKernel } from '../../test/support/tiny-kernel.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { findEngines } from '../lib/engines.js';
import { GUEST_MEMORY_BYTES, guestConfig } from '../lib/guest.js';
import { readPhases, TSVM } from '../lib/tsvm-command.js';

const MARK_ROUNDS = 200;
const FIRST_INSTRUCTION_TARGET_MS = 1;

export const restore: Benchmark = {
  name: 'restore',
  summary: 'a saved machine to its first instruction, and to the end of `true`, beside containers',
  defaultRuns: () => 20,
  unfit: needsGuest,
  async run(context) {
    return [
      ...(await firstInstruction(context)),
      ...(await commandInProcess(context)),
      ...(await asCommand(context)),
    ];
  },
};

class Samples {
  readonly #samples = new Map<string, number[]>();

  add(metric: string, value: number): void {
    this.#samples.set(metric, [...(this.#samples.get(metric) ?? []), value]);
  }

  measurements(unit: string, more: (metric: string) => Partial<Measurement> = () => ({})): Measurement[] {
    return [...this.#samples].map(([metric, samples]) => ({ metric, unit, samples, ...more(metric) }));
  }
}

const nextMark = (machine: Machine): Promise<void> =>
  new Promise((resolve) => {
    const mark = machine.on('mark', () => {
      mark[Symbol.dispose]();
      resolve();
    });
  });

/** A guest of a few instructions that says with each round of a loop that it runs. */
async function firstInstruction({ runs, scratch, log }: BenchContext): Promise<Measurement[]> {
  const samples = new Samples();
  const kernel = join(scratch, 'marks');
  const directory = join(scratch, 'tiny');
  writeFileSync(kernel, tinyKernel(tiny.countMarks(MARK_ROUNDS)));
  await using machine = await createMachine({ kernel, memoryBytes: GUEST_MEMORY_BYTES });
  const marked = nextMark(machine);
  await machine.start();
  await marked;
  await machine.snapshot(directory);
  await machine.pause();
  await machine.prepareForks(runs + 1);
  await using saved = await openSavedMachine(directory);
  await saved.prepare(runs + 1);
  for (let run = 0; run <= runs; run++) {
    let start = performance.now();
    const restored = await restoreMachine(directory);
    const answered = nextMark(restored);
    await restored.start();
    const entered = performance.now();
    await answered;
    const first = performance.now();
    await restored.kill();
    const stopped = performance.now();
    if (run > 0) {
      samples.add('restore, to KVM_RUN', entered - start);
      samples.add('restore, to the first mark answered', first - start);
      samples.add('end of a restored machine', stopped - first);
    }
    start = performance.now();
    const copy = await saved.restore();
    const copied = nextMark(copy);
    await copy.start();
    const copyEntered = performance.now();
    await copied;
    if (run > 0) {
      samples.add('restore of an open snapshot into a prepared VM, to KVM_RUN', copyEntered - start);
      samples.add(
        'restore of an open snapshot into a prepared VM, to the first mark answered',
        performance.now() - start,
      );
    }
    await copy.kill();
    start = performance.now();
    const [fork] = await machine.fork(1);
    const forked = performance.now();
    if (fork !== undefined) {
      await nextMark(fork);
      if (run > 0) {
        samples.add('fork into a prepared VM, to KVM_RUN', forked - start);
        samples.add('fork into a prepared VM, to the first mark answered', performance.now() - start);
      }
      await fork.kill();
    }
  }
  log('first instruction: done');
  return samples.measurements('ms', (metric) =>
    metric.includes('KVM_RUN') ? { target: { atMost: FIRST_INSTRUCTION_TARGET_MS } } : {},
  );
}

async function commandInProcess({ host, runs, scratch, log }: BenchContext): Promise<Measurement[]> {
  const ms = new Samples();
  const instructions = new Samples();
  const directory = join(scratch, 'linux');
  const { command: _command, ...config } = guestConfig(host, ['true']);
  const template = await bootToReady({ ...config, channel: true });
  const saved = await template.snapshot(directory);
  await template.kill();
  for (let run = 0; run <= runs; run++) {
    const start = performance.now();
    const machine = await restoreMachine(directory);
    machine.channel?.stdin.end();
    machine.channel?.send({ argv: ['true'], env: {} }, { timeMs: Date.now(), entropy: randomBytes(32) });
    machine.channel?.stdout.resume();
    machine.channel?.stderr.resume();
    await machine.start();
    const status = await machine.channel?.exited;
    const exited = performance.now();
    if (status !== 0) throw new Error(`\`true\` in a restored machine ended with ${status}`);
    await machine.kill();
    if (run === 0) continue;
    ms.add('restore, to the end of `true`', exited - start);
    const { insnEmulation } = machine.timeline();
    if (insnEmulation !== undefined) instructions.add('restore, to the end of `true`', insnEmulation / 1e3);
  }
  log('command in the process: done');
  return [
    ...ms.measurements('ms'),
    ...(host.profile === 'pvm' ? instructions.measurements('thousand emulated instructions') : []),
    { metric: 'pause of a full save', unit: 'ms', samples: [saved.pauseMs] },
    { metric: 'bytes of a full save', unit: 'MiB', samples: [saved.memoryBytes / 2 ** 20] },
  ];
}

/** Where a `tsvm run` of `totalMs` spent them. The timeline counts from the start of its process. */
function phasesOf(timelinePath: string, totalMs: number): [string, number][] {
  const at = readPhases(timelinePath);
  return [
    ['Node and modules', at('create')],
    ['reading the snapshot', at('snapshot-read') - at('create')],
    ['making the VM', at('vm-created') - at('snapshot-read')],
    ['restoring its state', at('start') - at('vm-created')],
    ['guest, to the end of `true`', at('done') - at('start')],
    ['clean-up and exit', totalMs - at('done')],
  ];
}

/** Whole processes in turn, so that a machine whose speed drifts is fair to all. */
async function asCommand({ runs, scratch, log }: BenchContext): Promise<Measurement[]> {
  const samples = new Samples();
  const engines = findEngines(scratch, log);
  const env = { ...process.env, TSVM_TEMPLATE_DIR: join(scratch, 'templates') };
  const time = (program: string, args: readonly string[]): number => {
    const start = performance.now();
    const { status, stderr } = spawnSync(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const ms = performance.now() - start;
    if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${stderr}`);
    return ms;
  };
  time(process.execPath, [TSVM, 'run', '--', 'true']); // makes the template
  const timelinePath = join(scratch, 'timeline.json');
  for (let run = 0; run <= runs; run++) {
    const times = new Map<string, number>();
    times.set('node -e 0', time(process.execPath, ['-e', '0']));
    const tsvm = time(process.execPath, [TSVM, 'run', '--timeline', timelinePath, '--', 'true']);
    times.set('tsvm run -- true', tsvm);
    for (const [phase, ms] of phasesOf(timelinePath, tsvm)) times.set(`of tsvm run: ${phase}`, ms);
    for (const { name, command } of engines) {
      const [program, ...args] = command(`tsvm-bench-${process.pid}-${run}`);
      times.set(`${name}, the same`, time(program, args));
    }
    if (run === 0) continue;
    for (const [metric, value] of times) samples.add(metric, value);
    log(
      `round ${run} of ${runs}: ${[...times].map(([name, value]) => `${name} ${value.toFixed(0)} ms`).join(', ')}`,
    );
  }
  return samples.measurements('ms');
}
