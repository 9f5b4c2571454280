/**
 * Reads and writes through virtio-blk, past the guest's page cache; the host's file is in its page cache. Beside QEMU's
 * microvm where that boots: the same kernel, program and file, in turn.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { blk } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import {
  type BenchContext,
  type Benchmark,
  type Measurement,
  needsGuest,
  needsQemuBeside,
} from '../lib/benchmark.js';
import { inTurn, runInQemu } from '../lib/beside.js';
import { guestConfig, initramfsWithProgram, runIo } from '../lib/guest.js';

const DISK_BYTES = 64 * MIB;

interface Pattern {
  readonly way: 'read' | 'write';
  readonly order: 'sequential' | 'random';
  readonly blockBytes: number;
  /** Requests at a time. */
  readonly depth: number;
  readonly count: number;
}

const PATTERNS: readonly Pattern[] = [
  { way: 'read', order: 'random', blockBytes: 4096, depth: 1, count: 2000 },
  { way: 'read', order: 'random', blockBytes: 4096, depth: 32, count: 8000 },
  { way: 'write', order: 'random', blockBytes: 4096, depth: 1, count: 2000 },
  { way: 'write', order: 'random', blockBytes: 4096, depth: 32, count: 8000 },
  { way: 'read', order: 'sequential', blockBytes: MIB, depth: 1, count: 128 },
  { way: 'write', order: 'sequential', blockBytes: MIB, depth: 1, count: 128 },
];

/** Where each request costs the interpreter tens of thousands of instructions. */
const INTERPRETED_SHARE = 1 / 32;

export const diskThroughput: Benchmark = {
  name: 'disk-throughput',
  summary: '4 KiB random and 1 MiB sequential reads and writes through virtio-blk, beside QEMU microvm',
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

async function measure(context: BenchContext, pattern: Pattern, disk: string): Promise<Measurement[]> {
  const { host, scratch } = context;
  const { way, order, blockBytes, depth } = pattern;
  const count = Math.ceil(pattern.count * (host.profile === 'pvm' ? INTERPRETED_SHARE : 1));
  const argv = ['/io', way, '/dev/vda', order, `${blockBytes}`, `${count}`, `${depth}`];
  const initrd = initramfsWithProgram(host, scratch, 'io');
  const config = guestConfig(host, argv, { initrd, devices: [blk({ path: disk })] });
  const qemuDisk = [
    ...['-drive', `if=none,id=disk,format=raw,file=${disk}`],
    ...['-device', 'virtio-blk-device,drive=disk'],
  ];
  const mib = (count * blockBytes) / MIB;
  const size = blockBytes === MIB ? '1 MiB' : '4 KiB';
  const what = `${order} ${way}s of ${size}, ${depth === 1 ? 'one' : depth} at a time`;
  const exits: number[] = [];
  const [rate, ...beside] = await inTurn(context, {
    what,
    unit: 'MiB/s',
    toUnit: (seconds) => mib / seconds,
    async tsvm() {
      const run = await runIo(config);
      exits.push(run.exitsToJavaScript / mib);
      return run.seconds;
    },
    qemu:
      needsQemuBeside(host) === undefined
        ? () => runInQemu({ host, scratch, initrd, argv, options: qemuDisk })
        : undefined,
  });
  // The first round does not count.
  const perMib = { metric: `${what}, exits to JavaScript`, unit: 'per MiB', samples: exits.slice(1) };
  return [...(rate === undefined ? [] : [rate]), perMib, ...beside];
}
