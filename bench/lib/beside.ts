/** One figure of tsvm's and of QEMU's, taken in turn, and their ratio. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Guest } from '../../src/index.js';
import { ACPI_POWER_PORT } from '../../src/memory/layout.js';
import { MIB } from '../../src/util/units.js';
import type { BenchContext, BenchHost, Measurement } from './benchmark.js';
import { GUEST_MEMORY_BYTES, guestOf } from './guest.js';
import { exitAtPort, initramfsWith, qemuArguments } from './qemu.js';
import { TSVM } from './tsvm-command.js';

/** A guest that says nothing for so long has failed. */
const GUEST_MS = 120_000;

/** A command in a guest that measures itself: bench/guest/measure.h. */
export interface GuestJob {
  readonly host: BenchHost;
  readonly scratch: string;
  /** Default: the default guest. */
  readonly guest?: Guest;
  /** Has the program. */
  readonly initrd: string;
  readonly argv: readonly string[];
  /** Of the kernel's command line. */
  readonly append?: readonly string[];
  /** Of tsvm or of QEMU. */
  readonly options: readonly string[];
  /** What starts the monitor: `ip netns exec` and a name. */
  readonly prefix?: readonly string[];
}

/** Returns the seconds that the guest's clock says it took. */
export async function runInTsvm(job: GuestJob): Promise<number> {
  const guest = job.guest ?? guestOf(job.host);
  return await secondsOf(job, process.execPath, [
    ...[TSVM, 'boot', '--kernel', guest.kernel, '--initrd', job.initrd, '--discovery', guest.discovery],
    ...['--cmdline', [guest.cmdline, 'console=ttyS0', ...(job.append ?? [])].join(' ')],
    ...['--memory', `${GUEST_MEMORY_BYTES / MIB}M`, ...job.options, '--', ...job.argv],
  ]);
}

/** The same, in a microvm. */
export async function runInQemu(job: GuestJob): Promise<number> {
  const { host, scratch, initrd, argv, append = [], guest = guestOf(host) } = job;
  return await secondsOf(
    job,
    'qemu-system-x86_64',
    qemuArguments(
      { ...host, guest },
      initramfsWith(host, scratch, argv, initrd),
      // With devices, the guest must be told where they are.
      ['-machine', 'auto-kernel-cmdline=on', ...job.options, ...exitAtPort(ACPI_POWER_PORT)],
      append,
    ),
  );
}

async function secondsOf(
  { prefix = [], argv }: GuestJob,
  command: string,
  args: readonly string[],
): Promise<number> {
  const [program = command, ...rest] = [...prefix, command, ...args];
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      output += bytes.toString('latin1');
    });
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), GUEST_MS);
  await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
  clearTimeout(timer);
  const nanoseconds = /<end (\d+)>/.exec(output)?.[1];
  if (nanoseconds === undefined) throw new Error(`${argv.join(' ')} failed in ${command}:\n${output}`);
  return Number(nanoseconds) / 1e9;
}

export interface Comparison {
  readonly what: string;
  readonly unit: string;
  /** What so many seconds mean, in `unit`. */
  toUnit(seconds: number): number;
  tsvm(): Promise<number>;
  /** Absent where there is nobody to compare with. */
  readonly qemu: (() => Promise<number>) | undefined;
}

/** The first round fills caches, lets V8 compile, and does not count. */
export async function inTurn({ runs, log }: BenchContext, comparison: Comparison): Promise<Measurement[]> {
  const { what, unit, toUnit, tsvm, qemu } = comparison;
  const samples = { tsvm: [] as number[], qemu: [] as number[], ratio: [] as number[] };
  for (let round = 0; round <= runs; round++) {
    const seconds = await tsvm();
    const qemuSeconds = await qemu?.();
    if (round === 0) continue;
    samples.tsvm.push(toUnit(seconds));
    let text = `${toUnit(seconds).toPrecision(3)} ${unit}`;
    if (qemuSeconds !== undefined) {
      samples.qemu.push(toUnit(qemuSeconds));
      samples.ratio.push(qemuSeconds / seconds);
      text += `, QEMU ${toUnit(qemuSeconds).toPrecision(3)} ${unit}`;
    }
    log(`${what}, round ${round} of ${runs}: ${text}`);
  }
  return [
    { metric: what, unit, samples: samples.tsvm },
    ...(qemu === undefined
      ? []
      : [
          { metric: `${what}, QEMU microvm`, unit, samples: samples.qemu },
          {
            metric: `${what}, speed to QEMU's`,
            unit: 'ratio',
            samples: samples.ratio,
            target: { atLeast: 1 },
          },
        ]),
  ];
}

/** A file in the run's own folder. */
export const at = (context: BenchContext, name: string): string => join(context.scratch, name);
