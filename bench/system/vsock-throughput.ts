/** Streams through virtio-vsock to this process. QEMU's vsock is the host kernel's (vhost), so there is no peer in a process. */

import { createMachine, vsock } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { guestConfig, initramfsWithIo, runIo } from '../lib/guest.js';
import { serve, type Way } from '../lib/stream-servers.js';

const BYTES = 32 * MIB;
const PINGS = 500;
const INTERPRETED_SHARE = 1 / 64;
const PORT = 1024;

export const vsockThroughput: Benchmark = {
  name: 'vsock-throughput',
  summary: 'streams through virtio-vsock, each way, and a byte there and back',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const measurements: Measurement[] = [];
    for (const way of ['send', 'receive', 'ping'] as const)
      measurements.push(...(await measure(context, way)));
    return measurements;
  },
};

async function measure({ host, runs, scratch, log }: BenchContext, way: Way): Promise<Measurement[]> {
  const share = host.profile === 'pvm' ? INTERPRETED_SHARE : 1;
  const count = Math.ceil((way === 'ping' ? PINGS : BYTES) * share);
  const config = guestConfig(host, ['/io', way, '2', `${PORT}`, `${count}`], {
    initrd: initramfsWithIo(host, scratch),
    devices: [vsock()],
  });
  const what = way === 'ping' ? 'vsock, a byte there and back' : `vsock, the guest ${way}s`;
  const unit = way === 'ping' ? 'a second' : 'MiB/s';
  const samples: number[] = [];
  for (let round = 0; round <= runs; round++) {
    const { seconds } = await runIo(config, async (machineConfig) => {
      const machine = await createMachine(machineConfig);
      machine.vsock?.listen(PORT, (stream) => serve(stream, way, count));
      return machine;
    });
    const rate = (way === 'ping' ? count : count / MIB) / seconds;
    if (round > 0) samples.push(rate);
    if (round > 0) log(`${what}, round ${round} of ${runs}: ${rate.toFixed(1)} ${unit}`);
  }
  return [{ metric: what, unit, samples }];
}
