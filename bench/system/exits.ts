/** Exits that stop a vCPU until JavaScript answers, in a quiet boot: each costs two thread switches. */
import { Bus } from '../../src/bus/bus.js';
import { type Benchmark, type Measurement, needsGuest } from '../lib/benchmark.js';
import { guestConfig, runGuest } from '../lib/guest.js';

const TARGET = 300;

export const exits: Benchmark = {
  name: 'exits',
  summary: 'exits that reach JavaScript in a quiet boot, and what for',
  defaultRuns: () => 1,
  unfit: needsGuest,
  async run({ host }) {
    const accesses = countBusAccesses();
    const timeline = await runGuest(guestConfig(host, ['true'], { devices: [] }));
    const { toJavaScript, byHostProfile, total, servedNatively } = timeline.exits;
    const served = servedNatively.load + servedNatively.clearBits + servedNatively.stream;
    const measurements: Measurement[] = [
      {
        metric: 'reached JavaScript, boot to power-off',
        unit: 'exits',
        samples: [toJavaScript - byHostProfile],
        target: { atMost: TARGET },
      },
      { metric: 'of the host profile', unit: 'exits', samples: [byHostProfile] },
      { metric: 'served by the vCPU thread', unit: 'exits', samples: [served] },
      { metric: 'returns of KVM_RUN', unit: 'exits', samples: [total] },
    ];
    for (const [what, count] of [...accesses].sort(([, a], [, b]) => b - a))
      measurements.push({ metric: what, unit: 'accesses', samples: [count] });
    return measurements;
  },
};

/** Counts what devices are asked, by port and direction, by wrapping the bus for the rest of the process. */
function countBusAccesses(): Map<string, number> {
  const counts = new Map<string, number>();
  const count = (how: string, addr: number): void => {
    const what = `${how} 0x${addr.toString(16)} ${nameOf(addr)}`.trimEnd();
    counts.set(what, (counts.get(what) ?? 0) + 1);
  };
  const { read, write } = Bus.prototype;
  Bus.prototype.read = function (addr, data) {
    count('read', addr);
    return read.call(this, addr, data);
  };
  Bus.prototype.write = function (addr, data) {
    count('write', addr);
    return write.call(this, addr, data);
  };
  return counts;
}

function nameOf(addr: number): string {
  if (addr >= 0x3f8 && addr <= 0x3ff) return 'serial';
  return (
    { 96: 'i8042', 100: 'i8042', 112: 'rtc', 113: 'rtc', 1520: 'mark', 1521: 'exit status', 1536: 'power' }[
      addr
    ] ?? ''
  );
}
