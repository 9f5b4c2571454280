/**
 * A folder of the host's in the guest: small files made, a large one read. virtio-fs beside the virtio-9p of QEMU's microvm, in the guest
 * `9p`, whose kernel has both.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findGuest } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { type Benchmark, type Measurement, needsGuest, needsQemuBeside } from '../lib/benchmark.js';
import { at, inTurn, runInQemu, runInTsvm } from '../lib/beside.js';
import { initramfsWithProgram } from '../lib/guest.js';

const TAG = 'src';
const GUEST = '9p';
const FILE_BYTES = 4096;
const LARGE_BYTES = 64 * MIB;
const BLOCK_BYTES = 128 * 1024;
/** Where ring 0 is interpreted, a system call costs milliseconds. */
const INTERPRETED_SHARE = 1 / 16;
const MOUNT = {
  tsvm: `mount -t virtiofs ${TAG} /mnt`,
  qemu: `mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 ${TAG} /mnt`,
};

export const shareThroughput: Benchmark = {
  name: 'share-throughput',
  summary: 'small files made and a large one read in a shared folder, beside the virtio-9p of QEMU microvm',
  defaultRuns: (host) => (host.profile === 'pvm' ? 2 : 5),
  unfit: needsGuest,
  async run(context) {
    const { host, scratch } = context;
    const initrd = initramfsWithProgram(host, scratch, 'io');
    const guest = await findGuest(GUEST).catch(() => undefined);
    const beside = needsQemuBeside(host) === undefined && guest !== undefined;
    if (guest === undefined)
      context.log(`nothing beside it without the guest ${GUEST}: guests/build all ${GUEST}`);
    const share = host.profile === 'pvm' ? INTERPRETED_SHARE : 1;
    const folder = at(context, 'share');
    const files = Math.ceil(500 * share);
    const largeBytes = LARGE_BYTES * share;
    const jobs = [
      {
        what: `files of 4 KiB made`,
        unit: 'files/s',
        command: `exec /io create /mnt/new ${files} ${FILE_BYTES}`,
        toUnit: (seconds: number) => files / seconds,
      },
      {
        what: 'a large file read',
        unit: 'MiB/s',
        command: `exec /io cat /mnt/large ${BLOCK_BYTES}`,
        toUnit: (seconds: number) => largeBytes / MIB / seconds,
      },
    ];
    const prepare = (): void => {
      rmSync(join(folder, 'new'), { recursive: true, force: true });
      mkdirSync(join(folder, 'new'), { recursive: true });
    };
    prepare();
    writeFileSync(join(folder, 'large'), Buffer.alloc(largeBytes, 0x5a));
    const measurements: Measurement[] = [];
    for (const { what, unit, command, toUnit } of jobs) {
      const job = (mount: string) => ({
        host,
        scratch,
        initrd,
        ...(guest === undefined ? {} : { guest }),
        argv: ['sh', '-c', `mkdir -p /mnt && ${mount} && ${command}`],
      });
      const fsdev = `local,id=fs0,path=${folder},security_model=none`;
      measurements.push(
        ...(await inTurn(context, {
          what,
          unit,
          toUnit,
          tsvm: () => {
            prepare();
            return runInTsvm({ ...job(MOUNT.tsvm), options: ['--share', `${folder}:${TAG}`] });
          },
          qemu: beside
            ? () => {
                prepare();
                const device = `virtio-9p-device,fsdev=fs0,mount_tag=${TAG}`;
                return runInQemu({ ...job(MOUNT.qemu), options: ['-fsdev', fsdev, '-device', device] });
              }
            : undefined,
        })),
      );
    }
    return measurements;
  },
};
