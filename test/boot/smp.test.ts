/** Many vCPUs, all busy: interrupts where the guest wants them, pause and resume in the middle, and nothing lost. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { blk, rng } from '../../src/index.js';
import { MIB } from '../../src/util/units.js';
import { interpreted, Session, temporaryDirectory } from '../support/guest.js';

/** Interpreted, eight kernels would take a minute to come up, and take turns on the host's CPUs. */
const CPUS = interpreted ? 2 : 8;
const DISK_MIB = interpreted ? 1 : 16;
const PAUSES = 10;

const disk = join(temporaryDirectory(), 'disk.img');
let session: Session;

beforeAll(async () => {
  writeFileSync(disk, Buffer.alloc(DISK_MIB * MIB, 'smp'));
  session = await Session.boot({
    cpus: CPUS,
    memoryBytes: 128 * MIB,
    devices: [blk({ path: disk }), rng()],
  });
});

afterAll(async () => {
  await session?.machine.kill();
});

test('every vCPU is there and works', async () => {
  expect((await session.run('nproc')).output).toBe(`${CPUS}\n`);
  const one = 'i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; cut -d" " -f39 /proc/self/stat';
  const { output } = await session.run(
    `n=0; while [ $n -lt ${4 * CPUS} ]; do n=$((n + 1)); { ${one}; } & done; wait`,
  );
  const seen = new Set(output.trim().split('\n'));
  expect(output.trim().split('\n')).toHaveLength(4 * CPUS);
  expect(seen.size).toBeGreaterThan(1);
});

/** The counts of an interrupt, by CPU. */
async function countsOf(name: string): Promise<{ irq: string; counts: number[] }> {
  const { output } = await session.run(`grep ${name} /proc/interrupts`);
  const [, irq = '', counts = ''] = /^ *(\d+):((?: +\d+)+)/.exec(output) ?? [];
  return { irq, counts: counts.trim().split(/ +/).map(Number) };
}

test('an interrupt goes to the vCPU that the guest chose', async () => {
  const device = 'virtio0';
  const { irq } = await countsOf(device);
  const target = CPUS - 1;
  expect(
    await session.run(`echo ${(1 << target).toString(16)} > /proc/irq/${irq}/smp_affinity`),
  ).toMatchObject({
    status: 0,
  });
  await session.run('echo 3 > /proc/sys/vm/drop_caches; head -c 65536 /dev/vda > /dev/null');
  const before = await countsOf(device);
  await session.run('echo 3 > /proc/sys/vm/drop_caches; head -c 262144 /dev/vda | tail -c 1 > /dev/null');
  const after = await countsOf(device);
  const grown = after.counts.map((count, cpu) => count - (before.counts[cpu] ?? 0));
  expect(grown[target]).toBeGreaterThan(0);
  expect(grown.slice(0, target).every((count) => count === 0)).toBe(true);
});

test('pause and resume while all of them are busy lose nothing', async () => {
  const work = `for n in $(seq ${CPUS}); do (i=0; while [ $i -lt ${interpreted ? 500 : 3000} ]; do i=$((i + 1)); done; echo "worker $i") & done;
    dd if=/dev/vda bs=64k 2>/dev/null | md5sum; head -c 4096 /dev/hwrng | wc -c; wait; md5sum < /dev/vda`;
  const finished = session.run(work.replaceAll('\n', ' '));
  for (let i = 0; i < PAUSES; i++) {
    await sleep(30);
    await session.machine.pause();
    await sleep(10);
    await session.machine.resume();
  }
  const lines = (await finished).output.trim().split('\n');
  expect(lines.filter((line) => line.startsWith('worker '))).toHaveLength(CPUS);
  expect(lines).toContain('4096');
  const sums = lines.filter((line) => /^[0-9a-f]{32} /.test(line));
  expect(sums).toHaveLength(2);
  expect(new Set(sums).size).toBe(1);
});
