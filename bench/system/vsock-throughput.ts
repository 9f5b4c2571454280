/** Streams both ways and round trips through virtio-vsock, beside QEMU's microvm with the kernel's vhost-vsock. */
import { existsSync } from 'node:fs';
import { MIB } from '../../src/util/units.js';
import { type Benchmark, type Measurement, needsGuest, needsQemuBeside } from '../lib/benchmark.js';
import { at, inTurn, runInQemu, runInTsvm } from '../lib/beside.js';
import { initramfsWithProgram } from '../lib/guest.js';
import { Peer } from '../lib/peer.js';

const PORT = 5201;
/** The host, as the guest calls it (VMADDR_CID_HOST). */
const HOST_CID = '2';
const GUEST_CID = 4242;
/** Where ring 0 is interpreted, a packet costs milliseconds. */
const INTERPRETED_SHARE = 1 / 64;

const JOBS = [
  { verb: 'send', what: 'stream from the guest', count: 64 * MIB },
  { verb: 'receive', what: 'stream to the guest', count: 64 * MIB },
  { verb: 'echo', what: 'round trip of one byte', count: 2000 },
] as const;

export const vsockThroughput: Benchmark = {
  name: 'vsock-throughput',
  summary: 'streams both ways and round trips through virtio-vsock, beside QEMU microvm with vhost-vsock',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const { host, scratch } = context;
    const initrd = initramfsWithProgram(host, scratch, 'stream');
    const beside = needsQemuBeside(host) === undefined && existsSync('/dev/vhost-vsock');
    const path = at(context, 'vsock');
    using _unix = await Peer.listen('unix', `${path}_${PORT}`, PORT);
    using _vsock = beside ? await Peer.listen('vsock', '-', PORT) : undefined;
    const measurements: Measurement[] = [];
    for (const { verb, what, count } of JOBS) {
      const share = host.profile === 'pvm' ? Math.ceil(count * INTERPRETED_SHARE) : count;
      const job = {
        host,
        scratch,
        initrd,
        argv: ['/stream', verb, 'vsock', HOST_CID, `${PORT}`, `${share}`],
      };
      measurements.push(
        ...(await inTurn(context, {
          what,
          unit: verb === 'echo' ? 'µs' : 'MiB/s',
          toUnit: (seconds) => (verb === 'echo' ? (seconds * 1e6) / share : share / MIB / seconds),
          tsvm: () => runInTsvm({ ...job, options: ['--vsock', path] }),
          qemu: beside
            ? () => runInQemu({ ...job, options: ['-device', `vhost-vsock-device,guest-cid=${GUEST_CID}`] })
            : undefined,
        })),
      );
    }
    return measurements;
  },
};
