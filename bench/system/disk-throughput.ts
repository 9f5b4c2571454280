/** Reads through virtio-blk, past the guest's page cache, one request at a time; the host's file is in its page cache. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deviceKinds } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { guestConfig, initramfsWithIo, runIo } from '../lib/guest.js';

const DISK_BYTES = 64 * MIB;

interface Pattern {
  readonly name: 'sequential' | 'random';
  readonly blockBytes: number;
  /** Requests: fewer where each costs the interpreter tens of thousands of instructions. */
  count(interpreted: boolean): number;
}

const PATTERNS: readonly Pattern[] = [
  { name: 'sequential', blockBytes: MIB, count: (interpreted) => (interpreted ? 8 : 64) },
  { name: 'random', blockBytes: 4096, count: (interpreted) => (interpreted ? 64 : 2000) },
];

export const diskThroughput: Benchmark = {
  name: 'disk-throughput',
  summary: 'sequential 1 MiB and random 4 KiB reads through virtio-blk',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const disk = join(context.scratch, 'disk.img');
    writeFileSync(disk, Buffer.alloc(DISK_BYTES, 0x5a));
    const measurements: Measurement[] = [];
    for (const pattern of PATTERNS) measurements.push(...(await measure(context, pattern, disk)));
    return measurements;
  },
};

async function measure(
  { host, runs, scratch, log }: BenchContext,
  pattern: Pattern,
  disk: string,
): Promise<Measurement[]> {
  const { name, blockBytes } = pattern;
  const count = pattern.count(host.profile === 'pvm');
  const device = deviceKinds['blk']?.fromCli(`${disk},ro`);
  const config = guestConfig(host, ['/io', 'read', '/dev/vda', name, String(blockBytes), String(count)], {
    initrd: initramfsWithIo(host, scratch),
    devices: device === undefined ? [] : [device],
  });
  const rate: number[] = [];
  const latency: number[] = [];
  const exits: number[] = [];
  const mib = (count * blockBytes) / MIB;
  for (let i = 0; i < runs; i++) {
    const run = await runIo(config);
    rate.push(mib / run.seconds);
    latency.push((run.seconds / count) * 1e6);
    exits.push(run.exitsToJavaScript / mib);
    log(`${name}, run ${i + 1} of ${runs}: ${rate.at(-1)?.toFixed(1)} MiB/s`);
  }
  const what = `${name} reads of ${blockBytes === MIB ? '1 MiB' : '4 KiB'}`;
  return [
    { metric: what, unit: 'MiB/s', samples: rate },
    { metric: `${what}, each`, unit: 'µs', samples: latency },
    { metric: `${what}, exits to JavaScript`, unit: 'per MiB', samples: exits },
  ];
}
