/** TCP through virtio-net and passt to a server on the host's loopback; beside QEMU's microvm at a passt of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { USER_NET } from '../../src/devices/net-backend.js';
import { passtArguments } from '../../src/host/passt.js';
import { net } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { serve, type Way } from '../lib/stream-servers.js';
import { inTurn } from '../lib/turns.js';

const BYTES = 32 * MIB;
const PINGS = 500;
/** Where each packet costs the interpreter a hundred thousand instructions. */
const INTERPRETED_SHARE = 1 / 64;

export const netThroughput: Benchmark = {
  name: 'net-throughput',
  summary: 'TCP through virtio-net and passt, each way, and a byte there and back, beside QEMU microvm',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const measurements: Measurement[] = [];
    for (const way of ['send', 'receive', 'ping'] as const)
      measurements.push(...(await measure(context, way)));
    return measurements;
  },
};

async function measure(context: BenchContext, way: Way): Promise<Measurement[]> {
  const share = context.host.profile === 'pvm' ? INTERPRETED_SHARE : 1;
  const count = Math.ceil((way === 'ping' ? PINGS : BYTES) * share);
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => serve(socket, way, count));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const card = { mtu: 65_520, forwards: [], loopback: true };
  try {
    return await inTurn(context, {
      what: way === 'ping' ? 'TCP, a byte there and back' : `TCP, the guest ${way}s`,
      unit: way === 'ping' ? 'a second' : 'MiB/s',
      rate: (seconds) => (way === 'ping' ? count : count / MIB) / seconds,
      argv: ['/io', way, USER_NET.gatewayAddress, `${port}`, `${count}`],
      machine: { devices: [net({ backend: 'user', loopback: true })] },
      async qemu() {
        const path = join(context.scratch, 'passt.sock');
        rmSync(path, { force: true });
        const { guestAddress, gatewayAddress, netmask, nameServerAddress } = USER_NET;
        const args = passtArguments({ kind: 'user', ...card }).filter((arg) => arg !== '--fd' && arg !== '3');
        const passt = spawn('passt', [...args, '--one-off', '--socket', path], { stdio: 'ignore' });
        passt.on('error', () => {}); // QEMU says that it is not there
        for (let i = 0; i < 200 && !existsSync(path); i++) await sleep(20);
        return {
          devices: [
            ...['-netdev', `stream,id=net,server=off,addr.type=unix,addr.path=${path}`],
            ...['-device', `virtio-net-device,netdev=net,host_mtu=${card.mtu}`],
          ],
          parameters: `ip=${guestAddress}::${gatewayAddress}:${netmask}::eth0:off:${nameServerAddress}`,
        };
      },
    });
  } finally {
    server.close();
  }
}
