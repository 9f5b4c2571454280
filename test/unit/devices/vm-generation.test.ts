/** The VM generation ID: whose changes, when, and whether its guest is told. */
import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { VmGeneration } from '../../../src/devices/pc/vm-generation.js';
import { createGuestMemory } from '../../../src/memory/guest-memory.js';
import { VM_GENERATION_ADDR } from '../../../src/memory/layout.js';
import { PAGE_BYTES } from '../../../src/util/units.js';

const NONE = '0'.repeat(32);

/** A guest's; `told` counts its interrupts. */
function newGuest() {
  const page = new Uint8Array(PAGE_BYTES);
  const memory = createGuestMemory([{ addr: VM_GENERATION_ADDR, bytes: page }]);
  const guest = {
    told: 0,
    page,
    id: (): string => Buffer.from(page.subarray(0, 16)).toString('hex'),
    generation: new VmGeneration(memory, { trigger: () => void guest.told++ }, randomBytes(16)),
  };
  return guest;
}

/** Guest that booted with an ID, and a copy of it. */
function newPair(fresh: boolean) {
  const original = newGuest();
  original.generation.begin();
  const copy = newGuest();
  copy.page.set(original.page);
  copy.generation.restore(original.generation.save(), fresh);
  return { original, copy };
}

test('VmGeneration gives each guest that boots another one, and tells none', () => {
  const { original } = newPair(true);
  const other = newGuest();
  other.generation.begin();
  for (const { generation } of [original, other]) generation.resume();
  expect(new Set([NONE, original.id(), other.id()]).size).toBe(3);
  expect([original.told, other.told]).toEqual([0, 0]);
  expect(original.page.subarray(16).some((byte) => byte !== 0)).toBe(false);
});

test('VmGeneration gives a copy another one when it goes on, and tells it once', () => {
  const { original, copy } = newPair(true);
  expect([copy.id(), copy.told]).toEqual([original.id(), 0]);
  copy.generation.resume();
  const own = copy.id();
  copy.generation.resume();
  expect(own).not.toBe(original.id());
  expect([copy.id(), copy.told, copy.generation.save()]).toEqual([own, 1, true]);
});

test('VmGeneration of a copy that is not to be fresh stays', () => {
  const { original, copy } = newPair(false);
  copy.generation.resume();
  expect([copy.id(), copy.told, copy.generation.save()]).toEqual([original.id(), 0, true]);
});

test('VmGeneration leaves the memory of a guest alone that knows of none', () => {
  const guest = newGuest();
  guest.generation.restore(newGuest().generation.save(), true);
  guest.generation.resume();
  expect([guest.id(), guest.told, guest.generation.save()]).toEqual([NONE, 0, false]);
});
