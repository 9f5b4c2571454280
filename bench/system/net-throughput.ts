/**
 * TCP both ways and round trips through virtio-net, at a TAP interface and by passt, beside QEMU's microvm at the same. The peer is a
 * program on the host; the interface is in a network namespace of the run's own.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../src/util/units.js';
import {
  type BenchContext,
  type BenchHost,
  type Benchmark,
  type Measurement,
  needsGuest,
  needsQemuBeside,
} from '../lib/benchmark.js';
import { at, type Comparison, type GuestJob, inTurn, runInQemu, runInTsvm } from '../lib/beside.js';
import { initramfsWithProgram } from '../lib/guest.js';
import { Peer } from '../lib/peer.js';

const PORT = 5201;
const TAP = 'tap0';
const [TAP_HOST, TAP_GUEST] = ['10.99.0.1', '10.99.0.2'];
const QEMU_CARD = ['-device', 'virtio-net-device,netdev=net0'];

/** Where ring 0 is interpreted, a segment costs milliseconds. */
const INTERPRETED_SHARE = 1 / 64;

const JOBS = [
  { verb: 'send', what: 'TCP from the guest', count: 256 * MIB },
  { verb: 'receive', what: 'TCP to the guest', count: 256 * MIB },
  { verb: 'echo', what: 'round trip of one byte', count: 2000 },
] as const;

export const netThroughput: Benchmark = {
  name: 'net-throughput',
  summary: 'TCP both ways and round trips, at a TAP interface and by passt, beside QEMU microvm',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: (host) =>
    needsGuest(host) ?? (process.getuid?.() === 0 ? undefined : 'needs root, for a TAP interface'),
  async run(context) {
    return [...(await atTap(context)), ...(await byPasst(context))];
  },
};

async function atTap(context: BenchContext): Promise<Measurement[]> {
  const name = `tsvm-bench-${process.pid}`;
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  ip('netns', 'add', name);
  try {
    ip('-n', name, 'tuntap', 'add', TAP, 'mode', 'tap');
    ip('-n', name, 'addr', 'add', `${TAP_HOST}/24`, 'dev', TAP);
    ip('-n', name, 'link', 'set', TAP, 'up');
    const prefix = ['ip', 'netns', 'exec', name];
    using _peer = await Peer.listen('tcp', TAP_HOST, PORT, prefix);
    const append = [`ip=${TAP_GUEST}::${TAP_HOST}:255.255.255.0::eth0:off`];
    return await measure(context, 'TAP', TAP_HOST, (job) => ({
      tsvm: () => runInTsvm({ ...job, append, prefix, options: ['--net', `tap,name=${TAP}`] }),
      qemu: () => {
        const netdev = `tap,id=net0,ifname=${TAP},script=no,downscript=no`;
        return runInQemu({ ...job, append, prefix, options: ['-netdev', netdev, ...QEMU_CARD] });
      },
    }));
  } finally {
    ip('netns', 'delete', name);
  }
}

async function byPasst(context: BenchContext): Promise<Measurement[]> {
  using _peer = await Peer.listen('tcp', '127.0.0.1', PORT);
  const gateway = '10.0.2.2';
  const append = [`ip=10.0.2.15::${gateway}:255.255.255.0::eth0:off`];
  return await measure(context, 'passt', gateway, (job) => ({
    tsvm: () => runInTsvm({ ...job, options: ['--net', 'user,loopback=yes'] }),
    qemu: async () => {
      const folder = at(context, 'passt');
      mkdirSync(folder, { recursive: true });
      const socket = join(folder, 'socket');
      rmSync(socket, { force: true });
      // As root it becomes nobody before it makes the socket.
      chmodSync(context.scratch, 0o711);
      chmodSync(folder, 0o777);
      const addresses = ['--address', '10.0.2.15', '--netmask', '24', '--gateway', gateway];
      // It ends with the connection.
      const passt = spawn(
        'passt',
        ['--foreground', '--quiet', '--one-off', '--socket', socket, ...addresses],
        {
          stdio: 'ignore',
        },
      );
      try {
        while (!existsSync(socket)) {
          if (passt.exitCode !== null || passt.signalCode !== null) throw new Error('passt ended');
          await sleep(20);
        }
        const netdev = `stream,id=net0,server=off,addr.type=unix,addr.path=${socket}`;
        // The same MTU as tsvm's card has.
        const card = ['-device', 'virtio-net-device,netdev=net0,host_mtu=65520'];
        return await runInQemu({ ...job, append, options: ['-netdev', netdev, ...card] });
      } finally {
        passt.kill();
      }
    },
  }));
}

type Monitors = (job: Omit<GuestJob, 'options'>) => Pick<Comparison, 'tsvm'> & {
  qemu(): Promise<number>;
};

async function measure(
  context: BenchContext,
  where: string,
  address: string,
  monitors: Monitors,
): Promise<Measurement[]> {
  const { host, scratch } = context;
  const initrd = initramfsWithProgram(host, scratch, 'stream');
  const measurements: Measurement[] = [];
  for (const { verb, what, count } of JOBS) {
    const share = Math.ceil(count * shareOf(host));
    const argv = ['/stream', verb, 'tcp', address, `${PORT}`, `${share}`];
    const { tsvm, qemu } = monitors({ host, scratch, initrd, argv });
    measurements.push(
      ...(await inTurn(context, {
        what: `${where}: ${what}`,
        unit: verb === 'echo' ? 'µs' : 'MiB/s',
        toUnit: (seconds) => (verb === 'echo' ? (seconds * 1e6) / share : share / MIB / seconds),
        tsvm,
        qemu: needsQemuBeside(host) === undefined ? qemu : undefined,
      })),
    );
  }
  return measurements;
}

function shareOf(host: BenchHost): number {
  return host.profile === 'pvm' ? INTERPRETED_SHARE : process.env['TSVM_RIG'] === undefined ? 1 : 1 / 8;
}
