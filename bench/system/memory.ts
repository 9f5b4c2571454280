/**
 * Memory of the VMM beyond guest RAM, for 1, 10 and 50 idle machines in one process.
 *
 * Where ring 0 is interpreted, fifty Linux boots take too long: there the machines run a kernel of two instructions
 * that halts. It has the same devices, vCPU thread and mappings; only what guest drivers set up (a virtqueue, some
 * counters) is missing.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMachine, type Machine, type MachineConfig } from '../../src/index.js';
import { slope } from '../../src/util/statistics.js';
import { MIB } from '../../src/util/units.js';
import { tiny, tinyKernel } from '../../test/support/tiny-kernel.js';
import {
  type BenchContext,
  type BenchHost,
  type Benchmark,
  type Measurement,
  needsGuest,
} from '../lib/benchmark.js';
import { bootGuest, guestConfig } from '../lib/guest.js';
import { type ProcessMemory, settledMemory } from '../lib/process-memory.js';

const COUNTS = [0, 1, 10, 50];
const SLOPE_TARGET_MIB = 2;

export const memory: Benchmark = {
  name: 'memory',
  summary: 'memory, threads and fds of the VMM beyond guest RAM, for 1, 10 and 50 idle machines',
  defaultRuns: () => 1,
  unfit: (host) => (bootsLinux(host) ? needsGuest(host) : host.kvm ? undefined : 'needs /dev/kvm'),
  async run(context) {
    const linux = bootsLinux(context.host);
    const note = linux ? 'Linux guests' : 'guests that halt at once';
    const machines: Machine[] = [];
    const points: { count: number; usage: ProcessMemory }[] = [];
    for (const count of COUNTS) {
      while (machines.length < count) machines.push(await idleMachine(context, linux));
      points.push({ count, usage: await settledMemory() });
      context.log(`${count} machines: ${JSON.stringify(points.at(-1)?.usage)}`);
    }
    await Promise.all(machines.map((machine) => machine.kill()));
    const after = await settledMemory();

    const per = (key: keyof ProcessMemory): number =>
      slope(points.filter(({ count }) => count > 0).map(({ count, usage }) => [count, usage[key]] as const));
    const measurements: Measurement[] = [];
    for (const { count, usage } of points) {
      const of = count === 0 ? 'no machine yet' : count === 1 ? '1 machine' : `${count} machines`;
      measurements.push(
        { metric: `PSS, ${of}`, unit: 'MiB', samples: [usage.pssBytes / MIB] },
        { metric: `private, ${of}`, unit: 'MiB', samples: [usage.privateBytes / MIB] },
      );
    }
    measurements.push(
      {
        metric: 'PSS per machine',
        unit: 'MiB',
        samples: [per('pssBytes') / MIB],
        target: { atMost: SLOPE_TARGET_MIB },
        note,
      },
      {
        metric: 'private per machine',
        unit: 'MiB',
        samples: [per('privateBytes') / MIB],
        target: { atMost: SLOPE_TARGET_MIB },
        note,
      },
      { metric: 'guest RAM touched per machine', unit: 'MiB', samples: [per('guestBytes') / MIB] },
      { metric: 'threads per machine', unit: 'threads', samples: [per('threads')] },
      { metric: 'fds per machine', unit: 'fds', samples: [per('fds')] },
      { metric: 'PSS after all were stopped', unit: 'MiB', samples: [after.pssBytes / MIB] },
      { metric: 'threads after all were stopped', unit: 'threads', samples: [after.threads] },
      { metric: 'fds after all were stopped', unit: 'fds', samples: [after.fds] },
    );
    return measurements;
  },
};

const bootsLinux = (host: BenchHost): boolean => host.profile !== 'pvm';

async function idleMachine({ host, scratch }: BenchContext, linux: boolean): Promise<Machine> {
  const devices: MachineConfig['devices'] = [];
  if (linux) return await bootGuest(guestConfig(host, ['sleep', '1000000'], { devices }));
  const kernel = join(scratch, 'halt');
  writeFileSync(kernel, tinyKernel([...tiny.mark(1), ...tiny.sleep()]));
  const machine = await createMachine({ kernel, memoryBytes: 64 * MIB, devices });
  const marked = new Promise<void>((resolve) => {
    machine.on('mark', () => resolve());
  });
  await machine.start();
  await marked;
  return machine;
}
