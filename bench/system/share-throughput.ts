/** Files of a shared folder, through virtio-fs; beside QEMU's microvm with its virtiofsd, on the same folder. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { share } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { type BenchContext, type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { GUEST_MEMORY_BYTES } from '../lib/guest.js';
import { inTurn, type Work } from '../lib/turns.js';

const FILES = 300;
const LARGE_BYTES = 24 * MIB;
const INTERPRETED_SHARE = 1 / 30;
const VIRTIOFSD = '/usr/lib/qemu/virtiofsd';

export const shareThroughput: Benchmark = {
  name: 'share-throughput',
  summary: 'small files made and a large one read through virtio-fs, beside QEMU microvm and its virtiofsd',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const { scratch, host } = context;
    const scale = host.profile === 'pvm' ? INTERPRETED_SHARE : 1;
    const folder = join(scratch, 'share');
    mkdirSync(folder);
    writeFileSync(join(folder, 'large'), Buffer.alloc(Math.ceil(LARGE_BYTES * scale), 'x'));
    const files = Math.ceil(FILES * scale);
    const inShare = (command: string): string[] => [
      ...['sh', '-c', `mkdir -p /m && mount -t virtiofs bench /m && exec ${command}`],
    ];
    const common = {
      machine: { devices: [share({ path: folder, tag: 'bench' })] },
      ...(existsSync(VIRTIOFSD) ? { qemu: () => withVirtiofsd(context, folder) } : {}),
    } satisfies Partial<Work>;
    const measurements: Measurement[] = [];
    measurements.push(
      ...(await inTurn(context, {
        ...common,
        what: 'files of 4 KiB made',
        unit: 'a second',
        rate: (seconds) => files / seconds,
        argv: inShare(`/io create /m/new ${files}`),
        async prepare() {
          mkdirSync(join(folder, 'new'));
          return async () => rmSync(join(folder, 'new'), { recursive: true });
        },
      })),
      ...(await inTurn(context, {
        ...common,
        what: 'a large file read',
        unit: 'MiB/s',
        rate: (seconds) => (LARGE_BYTES * scale) / MIB / seconds,
        argv: inShare('/io load /m/large'),
      })),
    );
    return measurements;
  },
};

/** It ends with its connection. */
async function withVirtiofsd({ scratch }: BenchContext, folder: string) {
  const path = join(scratch, 'virtiofsd.sock');
  rmSync(path, { force: true });
  const args = [`--socket-path=${path}`, '-o', `source=${folder}`, '-o', 'sandbox=chroot'];
  spawn(VIRTIOFSD, args, { stdio: 'ignore' }).on('error', () => {});
  for (let i = 0; i < 200 && !existsSync(path); i++) await sleep(20);
  return {
    devices: [
      ...['-object', `memory-backend-memfd,id=ram,size=${GUEST_MEMORY_BYTES},share=on`],
      ...['-machine', 'memory-backend=ram', '-chardev', `socket,id=fs,path=${path}`],
      ...['-device', 'vhost-user-fs-device,chardev=fs,tag=bench'],
    ],
  };
}
