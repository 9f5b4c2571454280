/**
 * What one more machine costs the host in memory when all have the same read-only root, read the same file of it, and idle:
 * with the root as virtio-pmem, and as virtio-blk, where each guest has a page cache of its own.
 *
 * It is guest RAM and the process's private memory. The image, which is in the host's page cache once either way, is in neither as
 * soon as two have it mapped.
 */
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cmdlineForRoot } from '../../src/guest/store.js';
import { ImageStore } from '../../src/image/store.js';
import { blk, type Machine, type MachineConfig, pmem } from '../../src/index.js';
import { slope } from '../../src/util/statistics.js';
import { MIB } from '../../src/util/units.js';
import {
  type BenchContext,
  type BenchHost,
  type Benchmark,
  type Measurement,
  needsGuest,
} from '../lib/benchmark.js';
import { bootGuest, guestConfig, guestOf } from '../lib/guest.js';
import { type ProcessMemory, settledMemory } from '../lib/process-memory.js';

/** Statically linked, of Debian's busybox-static. */
const BUSYBOX = '/bin/busybox';
/** Half of a guest's memory. */
const READ_BYTES = 32 * MIB;
const COUNTS = [2, 4, 8];
/** More guests at once are too many for the emulator. */
const RIG_COUNTS = [2, 3, 4];
const READ = 'dd if=/data of=/dev/null bs=64k && echo "<read>" && exec sleep 1000000';

interface Root {
  readonly name: string;
  readonly devices: NonNullable<MachineConfig['devices']>;
  readonly parameters: string;
}

export const density: Benchmark = {
  name: 'density',
  summary: 'memory of the host for one more machine with the same root, by virtio-pmem and by virtio-blk',
  defaultRuns: () => 1,
  unfit: (host) =>
    needsGuest(host) ??
    (existsSync(BUSYBOX) ? undefined : `${BUSYBOX} is missing: apt-get install busybox-static`),
  async run(context) {
    const path = await makeRoot(context.scratch);
    const roots: readonly Root[] = [
      { name: 'pmem', devices: [pmem({ path })], parameters: 'root=/dev/pmem0 rootflags=dax ro' },
      { name: 'disk', devices: [blk({ path, readOnly: true })], parameters: 'root=/dev/vda ro' },
    ];
    const measurements: Measurement[] = [];
    for (const root of roots) measurements.push(...(await measure(context, root)));
    return measurements;
  },
};

async function measure({ host, log }: BenchContext, root: Root): Promise<Measurement[]> {
  const machines: Machine[] = [];
  const points: { count: number; usage: ProcessMemory }[] = [];
  for (const count of process.env['TSVM_RIG'] === undefined ? COUNTS : RIG_COUNTS) {
    while (machines.length < count) machines.push(await machineThatHasRead(host, root));
    points.push({ count, usage: await settledMemory() });
    log(`${root.name}, ${count}: ${JSON.stringify(points.at(-1)?.usage)}`);
  }
  await Promise.all(machines.map((machine) => machine.kill()));

  const total = ({ privateBytes, guestBytes }: ProcessMemory): number => privateBytes + guestBytes;
  const per = (bytesOf: (usage: ProcessMemory) => number): number =>
    slope(points.map(({ count, usage }) => [count, bytesOf(usage)])) / MIB;
  return [
    ...points.map(({ count, usage }) => ({
      metric: `root by ${root.name}: guest RAM and private, ${count} machines`,
      unit: 'MiB',
      samples: [total(usage) / MIB],
    })),
    { metric: `root by ${root.name}: per machine`, unit: 'MiB', samples: [per(total)] },
    {
      metric: `root by ${root.name}: of that, guest RAM`,
      unit: 'MiB',
      samples: [per(({ guestBytes }) => guestBytes)],
    },
  ];
}

async function machineThatHasRead(host: BenchHost, { devices, parameters }: Root): Promise<Machine> {
  const machine = await bootGuest(
    guestConfig(host, ['/busybox', 'sh', '-c', READ], {
      cmdline: `${cmdlineForRoot(guestOf(host))} ${parameters}`,
      devices,
    }),
  );
  let text = '';
  const hasRead = new Promise<void>((resolve) => {
    machine.on('console', (bytes) => {
      text += Buffer.from(bytes).toString('latin1');
      if (text.includes('<read>')) resolve();
    });
  });
  const ended = machine.wait().then((end) => {
    throw new Error(`the guest ended with ${JSON.stringify(end)}; its console:\n${text}`);
  });
  await Promise.race([hasRead, ended]);
  ended.catch(() => {}); // it ends later, as asked
  return machine;
}

/** The host's static busybox and the file, in an image as `tsvm run --image` makes them. */
async function makeRoot(scratch: string): Promise<string> {
  const root = join(scratch, 'root');
  for (const directory of ['dev', 'proc', 'sys', 'run', 'tmp'])
    mkdirSync(join(root, directory), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'busybox'));
  writeFileSync(join(root, 'data'), Buffer.alloc(READ_BYTES, 'tsvm'));
  const archive = join(scratch, 'root.tar');
  execFileSync('tar', ['-C', root, '-cf', archive, '.']);
  const store = new ImageStore(join(scratch, 'images'));
  const image = await store.open(archive);
  assert(image.kind === 'layers');
  return await store.rootFileOf(image);
}
