/** The malformed chains of the hostile corpus, built so that each is refused for one reason only. */
import { INDIRECT, type MockQueue, NEXT, type Rig, WRITE, withoutIndirect } from './mock-driver.js';

/** A chain that no device may see. */
export interface BadChain {
  readonly name: string;
  readonly reason: RegExp;
  /** Writes it into a queue of any size of 8 or more; returns the head. */
  build(ring: MockQueue, rig: Rig): number;
  readonly features?: (offered: bigint) => bigint;
  /** Memory that it takes to get as far as being refused for the right reason. */
  readonly ramBytes?: number;
}

/** An indirect table of these descriptors, at `ring` descriptor 0. */
function indirectTable(
  rig: Rig,
  ring: MockQueue,
  descriptors: Parameters<MockQueue['rawDescriptor']>[1][],
  length = 16 * descriptors.length,
): number {
  const table = rig.driver.allocate(16 * descriptors.length + 16);
  for (const [i, descriptor] of descriptors.entries()) ring.rawDescriptor(i, descriptor, table);
  ring.rawDescriptor(0, { addr: table, length, flags: INDIRECT });
  return 0;
}

const RAM_END = 4 << 20;

export const BAD_CHAINS: readonly BadChain[] = [
  {
    name: 'a chain that loops (hostile 1)',
    reason: /longer than the queue/,
    build(ring) {
      ring.rawDescriptor(0, { addr: 0x8000, length: 1, flags: NEXT, next: 1 });
      ring.rawDescriptor(1, { addr: 0x8000, length: 1, flags: NEXT, next: 0 });
      return 0;
    },
  },
  {
    name: 'a descriptor that is its own next (hostile 1)',
    reason: /longer than the queue/,
    build(ring) {
      ring.rawDescriptor(3, { addr: 0x8000, length: 0, flags: NEXT, next: 3 });
      return 3;
    },
  },
  {
    name: 'a loop in an indirect table (hostile 1)',
    reason: /longer than the queue/,
    build: (ring, rig) => indirectTable(rig, ring, [{ addr: 0x8000, length: 1, flags: NEXT, next: 0 }]),
  },
  {
    name: 'a next beyond the queue (hostile 2)',
    reason: /index \d+ is beyond \d+/,
    build(ring) {
      ring.rawDescriptor(0, { addr: 0x8000, length: 1, flags: NEXT, next: ring.size });
      return 0;
    },
  },
  {
    name: 'a next beyond the indirect table (hostile 2)',
    reason: /index 1 is beyond 1/,
    build: (ring, rig) => indirectTable(rig, ring, [{ addr: 0x8000, length: 1, flags: NEXT, next: 1 }]),
  },
  {
    name: 'a buffer outside RAM (hostile 3)',
    reason: /not RAM/,
    build: (ring) => rawSingle(ring, { addr: RAM_END, length: 1 }),
  },
  {
    name: 'a buffer over the end of RAM (hostile 3)',
    reason: /not RAM/,
    build: (ring) => rawSingle(ring, { addr: RAM_END - 1, length: 2 }),
  },
  {
    name: 'a buffer in the MMIO hole (hostile 3)',
    reason: /not RAM/,
    build: (ring) => rawSingle(ring, { addr: 0xd000_0000, length: 16, flags: WRITE }),
  },
  {
    name: 'an address beyond 2^53 (hostile 4)',
    reason: /beyond 2\^53/,
    build(ring, rig) {
      const head = rawSingle(ring, { addr: 0x8000, length: 16 });
      rig.memory.writeU32(ring.descAddr + 4, 0xffff_ffff);
      return head;
    },
  },
  {
    name: 'addr + length that wraps 2^32 (hostile 4)',
    reason: /not RAM/,
    build: (ring) => rawSingle(ring, { addr: 0xffff_ff00, length: 0xffff_ffff }),
  },
  {
    name: 'more than 2^32 bytes in all (hostile 6; 2.7.5.2)',
    reason: /longer than 2\^32/,
    ramBytes: 0x5000_0000,
    build(ring) {
      for (let i = 0; i < 4; i++)
        ring.rawDescriptor(i, { addr: 0, length: 0x5000_0000, flags: NEXT, next: i + 1 });
      ring.rawDescriptor(4, { addr: 0, length: 1 });
      return 0;
    },
  },
  {
    name: 'an indirect table that was not negotiated (hostile 8)',
    reason: /not negotiated/,
    features: withoutIndirect,
    build: (ring, rig) => indirectTable(rig, ring, [{ addr: 0x8000, length: 1 }]),
  },
  {
    name: 'an indirect table inside an indirect table (hostile 8)',
    reason: /inside an indirect/,
    build: (ring, rig) => indirectTable(rig, ring, [{ addr: 0x8000, length: 16, flags: INDIRECT }]),
  },
  {
    name: 'an indirect descriptor with a next (hostile 8)',
    reason: /has a next/,
    build(ring) {
      ring.rawDescriptor(0, { addr: 0x8000, length: 16, flags: INDIRECT | NEXT, next: 1 });
      return 0;
    },
  },
  {
    name: 'an empty indirect table (hostile 8)',
    reason: /table of 0 bytes/,
    build: (ring, rig) => indirectTable(rig, ring, [], 0),
  },
  {
    name: 'an indirect table of 24 bytes (hostile 8)',
    reason: /table of 24 bytes/,
    build: (ring, rig) => indirectTable(rig, ring, [{ addr: 0x8000, length: 1 }], 24),
  },
  {
    name: 'an indirect table longer than the queue (hostile 8)',
    reason: /table of \d+ descriptors/,
    build: (ring, rig) => indirectTable(rig, ring, [{ addr: 0x8000, length: 1 }], (ring.size + 1) * 16),
  },
  {
    name: 'an indirect table outside RAM (hostile 8)',
    reason: /not in RAM/,
    build: (ring) => rawSingle(ring, { addr: RAM_END - 16, length: 32, flags: INDIRECT }),
  },
  {
    name: 'a readable buffer after a writable one (hostile 9; 2.7.4.2)',
    reason: /readable after a writable/,
    build(ring) {
      ring.rawDescriptor(0, { addr: 0x8000, length: 1, flags: NEXT | WRITE, next: 1 });
      ring.rawDescriptor(1, { addr: 0x8000, length: 1 });
      return 0;
    },
  },
  {
    name: 'a readable buffer after an empty writable one (hostile 9; 2.7.4.2)',
    reason: /readable after a writable/,
    build(ring) {
      ring.rawDescriptor(0, { addr: 0x8000, length: 0, flags: NEXT | WRITE, next: 1 });
      ring.rawDescriptor(1, { addr: 0x8000, length: 1 });
      return 0;
    },
  },
];

function rawSingle(ring: MockQueue, descriptor: Parameters<MockQueue['rawDescriptor']>[1]): number {
  ring.rawDescriptor(0, descriptor);
  return 0;
}
