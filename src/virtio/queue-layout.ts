/** Layout and position of a split queue, as a driver or a saved machine gives them, and what is refused of that. */
import type { GuestMemory } from '../memory/guest-memory.js';
import type { Gpa } from '../memory/layout.js';

/** The greatest size of a split queue (virtio 1.3, 2.7: 2^15). */
export const MAX_QUEUE_SIZE = 32768;

/** Bytes of a descriptor. */
export const DESC_BYTES = 16;

/** Layout of a queue, as its driver configures it and as it is saved. */
export interface QueueLayout {
  readonly size: number;
  /** Descriptor table, then avail ring ("driver area"), then used ring ("device area"). */
  readonly descAddr: Gpa;
  readonly availAddr: Gpa;
  readonly usedAddr: Gpa;
}

/** Position of a queue in its rings. */
export interface QueuePosition {
  /** Index of the next available entry to pop. */
  readonly nextAvail: number;
  /** Index of the next used entry to fill. */
  readonly nextUsed: number;
  /** The used index at the last signal, as far as it is known. */
  readonly signalledUsed: number;
}

/** Position of a queue that the driver has just set up. */
export const START_POSITION: QueuePosition = { nextAvail: 0, nextUsed: 0, signalledUsed: 0 };

/** Reason why no queue can be at `layout`; undefined if one can. Never throws, whatever the driver wrote. */
export function refuseLayout(memory: GuestMemory, layout: QueueLayout, maxSize: number): string | undefined {
  const { size, descAddr, availAddr, usedAddr } = layout;
  // virtio 1.3, 2.7 MUST: the queue size is a power of 2.
  if (size < 1 || size > maxSize || (size & (size - 1)) !== 0)
    return `queue size ${size} is not a power of 2 up to ${maxSize}`;
  const parts = [
    { name: 'descriptor table', addr: descAddr, length: DESC_BYTES * size, alignment: 16 },
    { name: 'available ring', addr: availAddr, length: 6 + 2 * size, alignment: 2 },
    { name: 'used ring', addr: usedAddr, length: 6 + 8 * size, alignment: 4 },
  ];
  for (const { name, addr, length, alignment } of parts) {
    const where = `${name} at 0x${addr.toString(16)}`;
    if (!memory.contains(addr, length)) return `${where} is not in RAM`;
    if (addr % alignment !== 0) return `${where} is not aligned to ${alignment} bytes`;
    if (!memory.holdsWhole(addr, length)) return `${where} spans two regions of RAM`;
  }
  parts.sort((a, b) => a.addr - b.addr);
  for (let i = 1; i < parts.length; i++) {
    const before = parts[i - 1] as (typeof parts)[number];
    const part = parts[i] as (typeof parts)[number];
    if (before.addr + before.length > part.addr) return `${part.name} overlaps the ${before.name}`;
  }
  return undefined;
}

/** Reason why no queue can go on at `position`; undefined if one can. */
export function refusePosition(position: QueuePosition): string | undefined {
  const indices = [position.nextAvail, position.nextUsed, position.signalledUsed];
  const whole = indices.every((index) => Number.isInteger(index) && index >= 0 && index <= 0xffff);
  return whole ? undefined : `its position is not three indices of 16 bits: ${indices.join(', ')}`;
}
