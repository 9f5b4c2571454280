/** The same work in tsvm and in QEMU's microvm, in turn. */
import type { MachineConfig } from '../../src/index.js';
import { type BenchContext, type Measurement, needsQemuBeside } from './benchmark.js';
import { guestConfig, type IoRun, initramfsWithIo, runIo } from './guest.js';
import { runIoInQemu } from './qemu.js';

export interface Work {
  readonly what: string;
  /** What was done a second, of so many seconds. */
  rate(seconds: number): number;
  readonly unit: string;
  readonly argv: readonly string[];
  /** For each round anew. What is returned is called after it. */
  prepare?(): Promise<() => Promise<void>>;
  readonly machine: MachineConfig;
  /** Undefined: QEMU does not do this here. It is called for each round, and what it starts must end with QEMU. */
  readonly qemu?: () => Promise<{ readonly devices: readonly string[]; readonly parameters?: string }>;
}

export async function inTurn(context: BenchContext, work: Work): Promise<Measurement[]> {
  const { host, runs, scratch, log } = context;
  const { what, unit, argv } = work;
  const initrd = initramfsWithIo(host, scratch);
  const config = guestConfig(host, argv, { ...work.machine, initrd });
  const peer = needsQemuBeside(host) === undefined ? work.qemu : undefined;
  const prepared = async <T>(action: () => Promise<T>): Promise<T> => {
    const undo = await work.prepare?.();
    try {
      return await action();
    } finally {
      await undo?.();
    }
  };
  const samples = {
    rate: [] as number[],
    exits: [] as number[],
    qemu: [] as number[],
    ratio: [] as number[],
  };
  // The first round fills caches, lets V8 compile, and does not count.
  for (let round = 0; round <= runs; round++) {
    const run: IoRun = await prepared(() => runIo(config));
    const qemuSeconds =
      peer === undefined
        ? undefined
        : await prepared(async () => await runIoInQemu({ host, scratch, initrd, argv, ...(await peer()) }));
    if (round === 0) continue;
    samples.rate.push(work.rate(run.seconds));
    samples.exits.push(run.exitsToJavaScript);
    let text = `${work.rate(run.seconds).toFixed(1)} ${unit}`;
    if (qemuSeconds !== undefined) {
      samples.qemu.push(work.rate(qemuSeconds));
      samples.ratio.push(qemuSeconds / run.seconds);
      text += `, QEMU ${work.rate(qemuSeconds).toFixed(1)} ${unit}`;
    }
    log(`${what}, round ${round} of ${runs}: ${text}`);
  }
  return [
    { metric: what, unit, samples: samples.rate },
    { metric: `${what}, exits to JavaScript`, unit: 'exits', samples: samples.exits },
    ...(peer === undefined
      ? []
      : [
          { metric: `${what}, QEMU microvm`, unit, samples: samples.qemu },
          { metric: `${what}, tsvm / QEMU`, unit: 'ratio', samples: samples.ratio, target: { atLeast: 1 } },
        ]),
  ];
}
