/** What is measured of a connection, whatever carries it: bytes both ways, and round trips of one. */
import { MIB } from '../../src/util/units.js';
import type { BenchContext, BenchHost, Measurement } from './benchmark.js';
import { type Comparison, type GuestJob, inTurn } from './beside.js';
import { initramfsWithProgram } from './guest.js';

/** Where Peer listens. */
export const STREAM_PORT = 5201;
/** Where ring 0 is interpreted, a packet costs milliseconds. */
const INTERPRETED_SHARE = 1 / 64;
const ROUND_TRIPS = 2000;

export interface StreamPlan {
  readonly kind: 'tcp' | 'vsock';
  /** The host's, as the guest calls it. */
  readonly address: string;
  /** Before each metric's name. */
  readonly where?: string;
  /** What carries the bytes, for the metric's name. */
  readonly carrier: string;
  /** Moved each way. */
  readonly bytes: number;
  /** Of bytes and round trips, where ring 0 is not interpreted. Default: all. */
  readonly share?: number;
  monitors(job: Omit<GuestJob, 'options'>): Pick<Comparison, 'tsvm' | 'qemu'>;
}

export async function measureStreams(context: BenchContext, plan: StreamPlan): Promise<Measurement[]> {
  const { host, scratch } = context;
  const { kind, address, where = '', carrier, bytes } = plan;
  const initrd = initramfsWithProgram(host, scratch, 'stream');
  const jobs = [
    { verb: 'send', what: `${carrier} from the guest`, most: bytes },
    { verb: 'receive', what: `${carrier} to the guest`, most: bytes },
    { verb: 'echo', what: 'round trip of one byte', most: ROUND_TRIPS },
  ] as const;
  const measurements: Measurement[] = [];
  for (const { verb, what, most } of jobs) {
    const count = Math.ceil(most * shareOf(host, plan));
    const argv = ['/stream', verb, kind, address, `${STREAM_PORT}`, `${count}`];
    measurements.push(
      ...(await inTurn(context, {
        what: `${where}${what}`,
        unit: verb === 'echo' ? 'µs' : 'MiB/s',
        toUnit: (seconds) => (verb === 'echo' ? (seconds * 1e6) / count : count / MIB / seconds),
        ...plan.monitors({ host, scratch, initrd, argv }),
      })),
    );
  }
  return measurements;
}

function shareOf({ profile }: BenchHost, { share = 1 }: StreamPlan): number {
  return profile === 'pvm' ? INTERPRETED_SHARE : share;
}
