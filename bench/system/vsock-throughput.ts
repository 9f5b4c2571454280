/** Streams both ways and round trips through virtio-vsock, beside QEMU's microvm with the kernel's vhost-vsock. */
import { existsSync } from 'node:fs';
import { MIB } from '../../src/util/units.js';
import { type Benchmark, needsGuest, needsQemuBeside } from '../lib/benchmark.js';
import { at, runInQemu, runInTsvm } from '../lib/beside.js';
import { Peer } from '../lib/peer.js';
import { measureStreams, STREAM_PORT } from '../lib/streams.js';

/** The host, as the guest calls it (VMADDR_CID_HOST). */
const HOST_CID = '2';
const GUEST_CID = 4242;
export const vsockThroughput: Benchmark = {
  name: 'vsock-throughput',
  summary: 'streams both ways and round trips through virtio-vsock, beside QEMU microvm with vhost-vsock',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const beside = needsQemuBeside(context.host) === undefined && existsSync('/dev/vhost-vsock');
    const path = at(context, 'vsock');
    using _unix = await Peer.listen('unix', `${path}_${STREAM_PORT}`, STREAM_PORT);
    using _vsock = beside ? await Peer.listen('vsock', '-', STREAM_PORT) : undefined;
    return await measureStreams(context, {
      kind: 'vsock',
      address: HOST_CID,
      carrier: 'stream',
      bytes: 64 * MIB,
      monitors: (job) => ({
        tsvm: () => runInTsvm({ ...job, options: ['--vsock', path] }),
        qemu: beside
          ? () => runInQemu({ ...job, options: ['-device', `vhost-vsock-device,guest-cid=${GUEST_CID}`] })
          : undefined,
      }),
    });
  },
};
