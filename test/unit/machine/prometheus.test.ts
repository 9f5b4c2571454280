import { expect, test } from 'vitest';
import { Blk } from '../../../src/devices/virtio/blk.js';
import { deviceMetrics, type MachineMetrics } from '../../../src/machine/metrics.js';
import { prometheusText } from '../../../src/machine/prometheus.js';
import { MemoryDisk, settle } from '../../support/memory-disk.js';
import { Rig } from '../../support/mock-driver.js';

const exits: MachineMetrics['exits'] = {
  total: 7,
  toJavaScript: 2,
  byHostProfile: 0,
  servedNatively: { load: 0, clearBits: 0, stream: 0 },
  byReason: { io: 5, hlt: 2 },
};

/** Counters of a disk that wrote a sector and read two. */
async function disk() {
  const rig = new Rig(new Blk({ backend: new MemoryDisk() }));
  const queue = rig.driver.start().queue(0);
  const header = (type: number) => Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  queue.add([header(1), new Uint8Array(512)], [1]);
  queue.add([header(0)], [1024, 1]);
  queue.add([header(4)], [1]);
  queue.kick();
  await settle();
  rig.runDeferred();
  return deviceMetrics([{ transport: rig.slot }]);
}

test('deviceMetrics() has what a device, its queues and its requests did', async () => {
  const [blk] = await disk();
  expect(blk).toMatchObject({
    id: 'blk0',
    needsReset: 0,
    queues: [{ kicks: 1, chains: 3, errors: 0 }],
    counters: { reads: 1, readBytes: 1024, writes: 1, writtenBytes: 512, flushes: 1, ioErrors: 0 },
  });
  expect(blk?.durations['request']?.count).toBe(3);
});

test('prometheusText() is a page of the text format, each metric with its machines together', async () => {
  const devices = await disk();
  const text = prometheusText({
    one: { exits, vcpus: [], devices },
    'a "b"\\\n': { exits, vcpus: [], kvmStats: { exits: 9 }, devices: [] },
  });
  const lines = text.split('\n');
  expect(lines.pop()).toBe('');
  const name = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
  const sample = /^[a-z_]+\{[a-z_]+="([^"\\]|\\["\\n])*"(,[a-z_]+="([^"\\]|\\["\\n])*")*\} [0-9.e+-]+$/;
  const heads: string[] = [];
  let current = '';
  for (const line of lines) {
    if (line.startsWith('# TYPE ')) {
      current = line.split(' ')[2] as string;
      heads.push(current);
    } else if (!line.startsWith('# HELP ')) {
      expect(line).toMatch(sample);
      expect(name.exec(line)?.[0].startsWith(current), line).toBe(true);
    }
  }
  expect(new Set(heads).size).toBe(heads.length);
  expect(lines).toContain('tsvm_exits_total{machine="one"} 7');
  expect(lines).toContain('tsvm_exits_total{machine="a \\"b\\"\\\\\\n"} 7');
  expect(lines).toContain('tsvm_exits_by_reason_total{machine="one",reason="hlt"} 2');
  expect(lines).toContain('tsvm_queue_chains_total{machine="one",device="blk0",queue="0"} 3');
  expect(lines).toContain('tsvm_blk_read_bytes_total{machine="one",device="blk0"} 1024');
  expect(lines).toContain('tsvm_blk_request_seconds_bucket{machine="one",device="blk0",le="+Inf"} 3');
  expect(lines).toContain('tsvm_blk_request_seconds_count{machine="one",device="blk0"} 3');
});
