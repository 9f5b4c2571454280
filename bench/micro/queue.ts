/**
 * What a request costs the virtio core, without any device or guest: pop, complete, and one signal for each batch.
 *
 * The driver's side is set up once and then only moves the available index, so that it costs next to nothing.
 */
import { createGuestMemory } from '../../src/memory/guest-memory.js';
import { newQueueCounters, SplitQueue } from '../../src/virtio/queue.js';
import type { Benchmark } from '../lib/benchmark.js';

const SIZE = 256;
const AVAIL_ADDR = 0x2000;
const USED_ADDR = 0x3000;
const TABLES_ADDR = 0x4000;
const BUFFERS_ADDR = 0x20000;
const BATCHES = 2_000;
const WARM_UP_BATCHES = 500;

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

interface Shape {
  readonly name: string;
  readonly descriptors: number;
  readonly indirect: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: '1 descriptor', descriptors: 1, indirect: false },
  { name: '3 descriptors, indirect', descriptors: 3, indirect: true },
];

export const queue: Benchmark = {
  name: 'queue',
  summary: 'a request through the virtio core: pop and complete',
  defaultRuns: () => 5,
  unfit: () => undefined,
  async run({ runs }) {
    const results = SHAPES.map(({ name }) => ({ name, ns: [] as number[], bytes: [] as number[] }));
    for (let run = 0; run < runs; run++) {
      SHAPES.forEach((shape, i) => {
        const { nanoseconds, allocatedBytes } = measure(shape);
        results[i]?.ns.push(nanoseconds);
        results[i]?.bytes.push(allocatedBytes);
      });
    }
    return results.flatMap(({ name, ns, bytes }) => [
      { metric: `pop and complete, ${name}`, unit: 'ns', samples: ns },
      { metric: `allocated for it, ${name}`, unit: 'B', samples: bytes },
    ]);
  },
};

function measure(shape: Shape): { nanoseconds: number; allocatedBytes: number } {
  const memory = createGuestMemory([{ addr: 0, bytes: new Uint8Array(0x100000) }]);
  const descriptor = (at: number, addr: number, length: number, flags: number, next: number): void => {
    memory.writeU64(at, addr);
    memory.writeU32(at + 8, length);
    memory.writeU16(at + 12, flags);
    memory.writeU16(at + 14, next);
  };
  for (let head = 0; head < SIZE; head++) {
    memory.writeU16(AVAIL_ADDR + 4 + 2 * head, head);
    const buffer = BUFFERS_ADDR + 1024 * head;
    if (!shape.indirect) {
      descriptor(16 * head, buffer, 64, WRITE, 0);
      continue;
    }
    const table = TABLES_ADDR + 16 * shape.descriptors * head;
    descriptor(16 * head, table, 16 * shape.descriptors, INDIRECT, 0);
    for (let i = 0; i < shape.descriptors; i++) {
      const last = i === shape.descriptors - 1;
      descriptor(table + 16 * i, buffer + 64 * i, 64, (i === 0 ? 0 : WRITE) | (last ? 0 : NEXT), i + 1);
    }
  }
  const subject = new SplitQueue({
    index: 0,
    memory,
    layout: { size: SIZE, descAddr: 0, availAddr: AVAIL_ADDR, usedAddr: USED_ADDR },
    indirect: true,
    eventIdx: true,
    events: {
      interrupt: () => {},
      broken: (reason) => {
        throw new Error(reason);
      },
      yielded: () => {},
    },
    counters: newQueueCounters(),
  });
  let available = 0;
  const batches = (count: number): void => {
    for (let batch = 0; batch < count; batch++) {
      available = (available + SIZE) & 0xffff;
      memory.storeU16(AVAIL_ADDR + 2, available);
      subject.refill();
      for (let chain = subject.pop(); chain !== undefined; chain = subject.pop()) subject.complete(chain, 64);
      subject.signal();
    }
  };
  batches(WARM_UP_BATCHES);
  const heap = process.memoryUsage().heapUsed;
  const start = process.hrtime.bigint();
  batches(BATCHES);
  const elapsed = Number(process.hrtime.bigint() - start);
  const allocated = Math.max(process.memoryUsage().heapUsed - heap, 0);
  return { nanoseconds: elapsed / (BATCHES * SIZE), allocatedBytes: allocated / (BATCHES * SIZE) };
}
