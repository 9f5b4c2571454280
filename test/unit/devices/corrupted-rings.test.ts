/**
 * A property test: a driver that works, and is now and then corrupted in one place. Random bytes alone would never get
 * past the first check; a ring that is almost right gets far.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KINDS, makeSpecimen } from '../../support/device-zoo.js';
import { budget } from '../../support/fuzz.js';
import { settle } from '../../support/memory-disk.js';
import { type MockQueue, NEEDS_RESET, Rig } from '../../support/mock-driver.js';

const SEED = 20261123;
const RUNS = 120;

/** One request of a well-behaved driver. */
interface RequestPlan {
  readonly queue: number;
  readonly readable: readonly Uint8Array[];
  readonly writable: readonly number[];
  readonly indirect: boolean;
}

/** One thing that goes wrong, just before a kick. */
type Corruption =
  | { readonly kind: 'descriptor'; readonly index: number; readonly field: number; readonly value: number }
  | { readonly kind: 'ring'; readonly slot: number; readonly value: number }
  | { readonly kind: 'avail-idx'; readonly value: number }
  | { readonly kind: 'used-event'; readonly value: number }
  | { readonly kind: 'register'; readonly offset: number; readonly value: number }
  | { readonly kind: 'indirect'; readonly offset: number; readonly value: number };

/** Values on the edges, where mistakes live. */
const u32 = fc.oneof(
  fc.constantFrom(
    0,
    1,
    15,
    16,
    17,
    0xffff,
    0x10000,
    0x3f_ffff,
    0x40_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
  ),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const u16 = u32.map((value) => value & 0xffff);

/** A FUSE request: its length, opcode and node, and arguments that are a name, or numbers. */
const fuse = fc
  .tuple(
    fc.constantFrom(1, 2, 3, 4, 8, 9, 12, 14, 15, 16, 18, 26, 27, 28, 35, 38, 42, 44, 99),
    fc.nat(4),
    fc.oneof(
      fc.constantFrom('a', 'b', '..', '').map((name) => Buffer.from(`${name}\0`)),
      fc.uint8Array({ maxLength: 88 }),
    ),
  )
  .map(([opcode, node, args]) => {
    const header = Buffer.alloc(40);
    header.writeUInt32LE(40 + args.length, 0);
    header.writeUInt32LE(opcode, 4);
    header.writeUInt32LE(node, 16);
    return new Uint8Array(Buffer.concat([header, args]));
  });

/** Bytes that drivers send: block and file requests, and any others. */
const readable = fc.array(
  fc.oneof(
    fc
      .tuple(fc.constantFrom(0, 1, 4, 8, 11, 13, 99), fc.integer({ min: 0, max: 130 }))
      .map(([type, sector]) => Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, sector, 0, 0, 0, 0, 0, 0, 0)),
    fuse,
    fc.constant(new Uint8Array(512)),
    fc.uint8Array({ maxLength: 40 }),
  ),
  { maxLength: 3 },
);

const plan: fc.Arbitrary<RequestPlan> = fc.record({
  queue: fc.nat(1),
  readable,
  writable: fc.array(fc.constantFrom(1, 16, 512, 1024), { maxLength: 3 }),
  indirect: fc.boolean(),
});

const corruption: fc.Arbitrary<Corruption> = fc.oneof(
  fc.record({ kind: fc.constant('descriptor' as const), index: fc.nat(15), field: fc.nat(3), value: u32 }),
  fc.record({ kind: fc.constant('ring' as const), slot: fc.nat(15), value: u16 }),
  fc.record({ kind: fc.constant('avail-idx' as const), value: u16 }),
  fc.record({ kind: fc.constant('used-event' as const), value: u16 }),
  fc.record({
    kind: fc.constant('register' as const),
    offset: fc.nat(127).map((word) => 4 * word),
    value: u32,
  }),
  fc.record({
    kind: fc.constant('indirect' as const),
    offset: fc.nat(15).map((word) => 4 * word),
    value: u32,
  }),
);

/** Steps: mostly requests; one in eight comes with a corruption. */
const steps = fc.array(
  fc.record({
    plan,
    corruption: fc.oneof(
      { weight: 7, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: corruption },
    ),
    kick: fc.boolean(),
  }),
  { minLength: 1, maxLength: 24 },
);

function corrupt(rig: Rig, queue: MockQueue, what: Corruption): void {
  const { memory } = rig;
  switch (what.kind) {
    case 'descriptor':
      memory.writeU32(queue.descAddr + 16 * (what.index % queue.size) + 4 * what.field, what.value);
      return;
    case 'ring':
      memory.writeU16(queue.availAddr + 4 + 2 * (what.slot % queue.size), what.value);
      return;
    case 'avail-idx':
      memory.storeU16(queue.availAddr + 2, what.value);
      return;
    case 'used-event':
      queue.usedEvent = what.value;
      return;
    case 'register':
      void rig.driver.write(what.offset, what.value);
      return;
    case 'indirect': {
      // Whatever the first descriptor points to, which often is an indirect table.
      const table = memory.readU32(queue.descAddr);
      if (memory.contains(table, 64)) memory.writeU32(table + what.offset, what.value);
      return;
    }
    default:
      what satisfies never;
  }
}

const QUEUE_SIZE = 16;

async function run(
  kind: string,
  script: readonly { plan: RequestPlan; corruption: Corruption | undefined; kick: boolean }[],
) {
  const { device, stir } = await makeSpecimen(kind);
  const rig = new Rig(device);
  rig.driver.start({ queueSize: QUEUE_SIZE });
  const { queues } = rig.driver;
  const outstanding = queues.map(() => new Map<number, number>());
  let wellBehaved = true;
  const collect = (): void => {
    queues.forEach((queue, index) => {
      if (!wellBehaved) return;
      for (const { head, length } of queue.used()) {
        const room = outstanding[index]?.get(head);
        expect(room, `queue ${index} returned head ${head}`).toBeDefined();
        expect(length).toBeLessThanOrEqual(room as number);
        outstanding[index]?.delete(head);
      }
    });
  };
  const turn = async (): Promise<void> => {
    stir();
    await settle();
    rig.runDeferred();
    collect();
  };
  for (const step of script) {
    const index = step.plan.queue % queues.length;
    const queue = queues[index] as MockQueue;
    const parts = step.plan.readable.length + step.plan.writable.length;
    // Descriptors are given out round and round: a driver waits for its oldest before it goes on.
    if (parts > 0 && (outstanding[index] as Map<number, number>).size === 0) {
      const { head } = queue.add(step.plan.readable, step.plan.writable, { indirect: step.plan.indirect });
      outstanding[index]?.set(
        head,
        step.plan.writable.reduce((sum, length) => sum + length, 0),
      );
    }
    if (step.corruption !== undefined) {
      wellBehaved = false;
      corrupt(rig, queue, step.corruption);
    }
    if (step.kick) {
      queue.kick();
      await turn();
    }
  }
  for (const queue of queues) queue.kick();
  await turn();
  await turn();
  return { rig, wellBehaved, outstanding };
}

describe.each(KINDS)('%s', (kind) => {
  test('serves every request of a good driver exactly once, and survives every other', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (script) => {
        const { rig, wellBehaved, outstanding } = await run(kind, script);
        if (wellBehaved) {
          // Receive buffers stay with a device that has nothing to say; everything else came back.
          const muteQueue = kind === 'console' || kind === 'net' || kind === 'vsock' ? 0 : -1;
          const left = outstanding.map((requests, index) => (index === muteQueue ? 0 : requests.size));
          const broken = rig.failures.length > 0; // a blk request with no room for its status is no good driver's
          if (!broken) expect(left.every((count) => count === 0)).toBe(true);
        }
        expect(rig.failures.length).toBeLessThanOrEqual(2);
        if (rig.failures.length === 0) expect(rig.driver.status & NEEDS_RESET).toBe(0);
        // And it works after a reset, whatever happened.
        await rig.driver.reset();
        const before = rig.failures.length;
        const queues = rig.driver.start({ queueSize: QUEUE_SIZE }).queues;
        for (const queue of queues) {
          queue.add([new Uint8Array(16)], [512, 1]);
          queue.kick();
        }
        await settle();
        expect(rig.failures.length).toBe(before);
        // The last queue of a vsock is for events, of which there are none.
        const answering = kind === 'vsock' ? queues[1] : queues.at(-1);
        expect(answering?.used()).toHaveLength(1);
      }),
      budget(RUNS, SEED),
    );
  });
});
