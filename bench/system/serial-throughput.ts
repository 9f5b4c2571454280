/** How fast a guest's program gets bytes out: through the serial port, and through virtio-console. */

import { MIB } from '../../src/util/units.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { guestConfig, initramfsWithProgram, runIo } from '../lib/guest.js';

export const serialThroughput: Benchmark = {
  name: 'serial-throughput',
  summary: 'bytes per second from a program in the guest to the console, serial and virtio',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    return [...(await measure(context, 'serial')), ...(await measure(context, 'virtio'))];
  },
};

async function measure(
  { host, runs, scratch, log }: BenchContext,
  console: 'serial' | 'virtio',
): Promise<Measurement[]> {
  const bytes =
    MIB *
    (host.profile === 'pvm' ? (console === 'serial' ? 1 / 64 : 1 / 4) : console === 'serial' ? 1 / 2 : 8);
  const config = guestConfig(host, ['/io', 'write', String(bytes)], {
    console,
    initrd: initramfsWithProgram(host, scratch, 'io'),
  });
  const rate: number[] = [];
  const exits: number[] = [];
  const kvmExits: number[] = [];
  for (let i = 0; i < runs; i++) {
    const run = await runIo(config);
    rate.push(bytes / run.seconds / 1024);
    exits.push(run.exitsToJavaScript / (bytes / MIB));
    kvmExits.push(run.kvmExits / bytes);
    log(`${console}, run ${i + 1} of ${runs}: ${rate.at(-1)?.toFixed(0)} KiB/s`);
  }
  return [
    { metric: `${console} console`, unit: 'KiB/s', samples: rate },
    { metric: `${console} console, exits to JavaScript`, unit: 'per MiB', samples: exits },
    { metric: `${console} console, exits of KVM`, unit: 'per byte', samples: kvmExits },
  ];
}
