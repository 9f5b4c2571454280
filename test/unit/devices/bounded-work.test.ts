/**
 * Work that a guest can make the monitor do at a time, for every registered device: a request as long as a chain can be, and requests
 * without end. Between two turns of the event loop no more is done than the budgets say, and nothing of it stays.
 */
import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import type { Chain } from '../../../src/virtio/chain.js';
import { KICK_BYTES, SplitQueue } from '../../../src/virtio/queue.js';
import { KINDS, makeSpecimen } from '../../support/device-zoo.js';
import { budget, patience } from '../../support/fuzz.js';
import { DRIVER_OK, type MockQueue, NEEDS_RESET, NEXT, Rig, WRITE } from '../../support/mock-driver.js';

const RAM_BYTES = 0x1000_0000;
/** virtio 1.3, 2.7.5.2. */
const LONGEST_CHAIN_BYTES = 0x1_0000_0000;
/** Bound of one turn of the event loop, as a processor counts it: others on this host do not matter. */
const MAX_TURN_MS = 100;
const SHORT_REQUESTS = 1_000_000;
/** The longest take the processor's time to read. */
const LONGEST_REQUESTS = budget(500, 0).numRuns;
const MAX_HEAP_GROWTH_BYTES = 8 << 20;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(1);

/** The beginning of requests that make each device work, by queue; the last for all that follow. A kind without a row fails. */
const REQUESTS_OF: Readonly<Record<string, readonly Uint8Array[]>> = {
  blk: [words(0, 0, 0, 0)], // VIRTIO_BLK_T_IN
  rng: [bytes(0)],
  console: [bytes(64)],
  net: [bytes(0), bytes(12 + 60)],
  vsock: [bytes(0), words(9, 0, 2, 0, 1024, 52, 0, 1 | (1 << 16), 0, 65536, 0)], // VIRTIO_VSOCK_OP_REQUEST
  balloon: [words(1, 2, 3, 4)],
  // FUSE_BATCH_FORGET of as many as there is room for; then FUSE_GETATTR of the root
  fs: [
    words(0, 42, 1, 0, 0, 0, 0, 0, 0, 0, 0xffff_ffff, 0),
    words(56, 3, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  ],
  pmem: [words(0)],
};

interface Turn {
  requests: number;
  bytes: number;
}

/** Counts what is popped, by turns of the event loop; `most` is the greatest of each. */
function countWork() {
  const now: Turn = { requests: 0, bytes: 0 };
  const most: Turn = { requests: 0, bytes: 0 };
  let total = 0;
  const pop = SplitQueue.prototype.pop;
  // No spy of Vitest's: it keeps every call.
  SplitQueue.prototype.pop = function (this: SplitQueue) {
    const chain: Chain | undefined = pop.call(this);
    if (chain === undefined) return chain;
    total++;
    now.requests++;
    now.bytes += chain.reader.length + chain.writer.length;
    most.requests = Math.max(most.requests, now.requests);
    most.bytes = Math.max(most.bytes, now.bytes);
    return chain;
  };
  return {
    most,
    total: () => total,
    nextTurn: () => Object.assign(now, { requests: 0, bytes: 0 }),
    [Symbol.dispose]: () => {
      SplitQueue.prototype.pop = pop;
    },
  };
}

const cpuMs = (since: NodeJS.CpuUsage): number => process.cpuUsage(since).user / 1000;

async function subject(kind: string, ramBytes: number) {
  const { device } = await makeSpecimen(kind);
  const rig = new Rig(device, { regions: [{ addr: 0, bytes: new Uint8Array(ramBytes) }] });
  rig.driver.start();
  const budgetOf = (index: number): number => KICK_BYTES + (device.maxRequestBytes?.[index] ?? Number.NaN);
  const budget: Turn = {
    requests: device.queueSizes.reduce((sum, size) => sum + size, 0),
    bytes: device.queueSizes.reduce((sum, _, index) => sum + budgetOf(index), 0),
  };
  return { device, rig, budget };
}

/** A chain of 4 GiB, out of the same memory again and again. */
function publishLongest(queue: MockQueue, flags: number): void {
  const count = Math.min(queue.size, 256);
  const length = LONGEST_CHAIN_BYTES / count;
  for (let i = 0; i < count; i++) {
    const last = i === count - 1;
    queue.rawDescriptor(i, { addr: 0, length, flags: flags | (last ? 0 : NEXT), next: i + 1 });
  }
  queue.rawPublish(0);
}

describe.each(KINDS)('a %s', (kind) => {
  test('says what the greatest request of each queue is', async () => {
    const { device } = await makeSpecimen(kind);
    expect(device.maxRequestBytes).toHaveLength(device.queueSizes.length);
    for (const most of device.maxRequestBytes ?? [])
      expect(most).toBeLessThanOrEqual(LONGEST_CHAIN_BYTES / 4);
  });

  test.each([
    ['read', 0],
    ['written', WRITE],
  ])('refuses a chain of 4 GiB to be %s without reading it, and works after a reset', async (_, flags) => {
    const { device, rig } = await subject(kind, RAM_BYTES);
    for (const index of device.queueSizes.keys()) {
      rig.driver.reset();
      rig.driver.start();
      publishLongest(rig.driver.queue(index), flags);
      const start = process.cpuUsage();
      rig.driver.queue(index).kick();
      rig.runDeferred();
      expect(cpuMs(start)).toBeLessThan(MAX_TURN_MS);
      // A queue of which the device wants nothing for now is not looked at, and a network loses what is too long.
      if (rig.slot.counters.queues[index]?.errors === 0) continue;
      expect(rig.failures.at(-1)).toMatch(/4294967296 bytes, more than the \d+ of a request/);
      expect(rig.driver.status & NEEDS_RESET).not.toBe(0);
    }
    await rig.driver.reset();
    rig.driver.start();
    expect(rig.driver.status & (NEEDS_RESET | DRIVER_OK)).toBe(DRIVER_OK);
  });

  test.each([
    ['short', SHORT_REQUESTS, false],
    ['the longest', LONGEST_REQUESTS, true],
  ])(
    'does no more at a time than its budgets allow, of %s requests without end',
    { timeout: patience(180_000) },
    async (_, wanted, longest) => {
      const { device, rig, budget } = await subject(kind, 64 << 20);
      const heads = rig.driver.queues.map((queue, index) => {
        const head = REQUESTS_OF[kind]?.[Math.min(index, (REQUESTS_OF[kind]?.length ?? 0) - 1)];
        if (head === undefined) throw new Error(`no requests of device kind '${kind}'`);
        const rest = longest ? Math.floor(((device.maxRequestBytes?.[index] ?? 0) - head.length) / 2) : 512;
        const at = rig.driver.allocate(head.length);
        rig.memory.write(at, head);
        const room = Math.min(rest, 16 << 20);
        const parts = [
          { addr: at, length: head.length },
          { addr: 32 << 20, length: longest ? room : 0 },
          { addr: 32 << 20, length: room, flags: WRITE },
        ].filter(({ length }) => length > 0);
        for (let slot = 0; slot + parts.length <= queue.size; slot += parts.length) {
          parts.forEach((part, i) => {
            const next =
              i === parts.length - 1 ? {} : { flags: (part.flags ?? 0) | NEXT, next: slot + i + 1 };
            queue.rawDescriptor(slot + i, { ...part, ...next });
          });
        }
        return { queue, stride: parts.length, count: Math.floor(queue.size / parts.length), published: 0 };
      });
      await turn();
      collectGarbage();
      const before = { heap: process.memoryUsage().heapUsed, files: readdirSync('/proc/self/fd').length };
      using work = countWork();
      const turnsMs: number[] = [];
      for (let idle = 0; idle < 20 && work.total() < wanted; ) {
        const done = work.total();
        work.nextTurn();
        const start = process.cpuUsage();
        for (const ring of heads) {
          // As many as the driver may have out: what was used is made available again.
          while (ring.published - usedOf(ring.queue, ring.published) < ring.count) {
            ring.queue.rawPublish((ring.published % ring.count) * ring.stride);
            ring.published++;
          }
          ring.queue.kick();
        }
        rig.runDeferred();
        turnsMs.push(cpuMs(start));
        await turn();
        if ((rig.driver.status & NEEDS_RESET) !== 0) break;
        idle = work.total() === done ? idle + 1 : 0;
      }
      expect(rig.failures).toEqual([]);
      expect(work.total()).toBeGreaterThan(0);
      // A kick, and a notification that was deferred to this turn.
      expect(work.most.requests).toBeLessThanOrEqual(2 * budget.requests);
      expect(work.most.bytes).toBeLessThanOrEqual(2 * budget.bytes);
      // Two are left out: what a hypervisor takes of a processor is counted as if we had used it.
      expect(turnsMs.sort((a, b) => a - b).at(-3) ?? 0).toBeLessThan(MAX_TURN_MS);
      await rig.driver.reset();
      await device.close?.();
      collectGarbage();
      expect(process.memoryUsage().heapUsed - before.heap).toBeLessThan(MAX_HEAP_GROWTH_BYTES);
      expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before.files);
    },
  );
});

/** Number of the `published` requests that came back: the ring's own index has 16 bits. */
function usedOf(queue: MockQueue, published: number): number {
  return published - ((published - queue.usedIdx) & 0xffff);
}
