/**
 * TCP both ways and round trips through virtio-net, at a TAP interface and by passt, beside QEMU's microvm at the same. The peer is a
 * program on the host; the interface is in a network namespace of the run's own.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { USER_NET } from '../../src/devices/backends/net.js';
import { ADDRESS_ARGUMENTS } from '../../src/host/net/passt.js';
import { MIB } from '../../src/util/units.js';
import {
  type BenchContext,
  type Benchmark,
  type Measurement,
  needsGuest,
  needsQemuBeside,
} from '../lib/benchmark.js';
import { at, runInQemu, runInTsvm } from '../lib/beside.js';
import { Peer } from '../lib/peer.js';
import { measureStreams, STREAM_PORT, type StreamPlan } from '../lib/streams.js';

const TAP = 'tap0';
const [TAP_HOST, TAP_GUEST] = ['10.99.0.1', '10.99.0.2'];
const QEMU_CARD = ['-device', 'virtio-net-device,netdev=net0'];

/** What a card carries in the emulated rig in the time that there is. */
const RIG_SHARE = 1 / 8;

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
    using _peer = await Peer.listen('tcp', TAP_HOST, STREAM_PORT, prefix);
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
  using _peer = await Peer.listen('tcp', '127.0.0.1', STREAM_PORT);
  const { guestAddress, gatewayAddress, netmask } = USER_NET;
  const append = [`ip=${guestAddress}::${gatewayAddress}:${netmask}::eth0:off`];
  return await measure(context, 'passt', gatewayAddress, (job) => ({
    tsvm: () => runInTsvm({ ...job, options: ['--net', 'user,loopback=yes'] }),
    qemu: async () => {
      const folder = at(context, 'passt');
      mkdirSync(folder, { recursive: true });
      const socket = join(folder, 'socket');
      rmSync(socket, { force: true });
      // As root it becomes nobody before it makes the socket.
      chmodSync(context.scratch, 0o711);
      chmodSync(folder, 0o777);
      // It ends with the connection.
      const passt = spawn(
        'passt',
        ['--foreground', '--quiet', '--one-off', '--socket', socket, ...ADDRESS_ARGUMENTS],
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

function measure(
  context: BenchContext,
  where: string,
  address: string,
  monitors: StreamPlan['monitors'],
): Promise<Measurement[]> {
  const beside = needsQemuBeside(context.host) === undefined;
  return measureStreams(context, {
    kind: 'tcp',
    address,
    where: `${where}: `,
    carrier: 'TCP',
    bytes: 256 * MIB,
    ...(process.env['TSVM_RIG'] === undefined ? {} : { share: RIG_SHARE }),
    monitors: (job) => ({ ...monitors(job), ...(beside ? {} : { qemu: undefined }) }),
  });
}
