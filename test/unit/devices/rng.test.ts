import { expect, test } from 'vitest';
import { Rng } from '../../../src/devices/rng.js';
import { Rig } from '../../support/mock-driver.js';

const device = (): Rng => new Rng({ fillRandom: (target) => target.fill(0xa5) });

test('Rng fills the whole buffer and interrupts once', () => {
  const rig = new Rig(device());
  const queue = rig.driver.start().queue(0);
  const request = queue.add([], [16, 48]);
  queue.kick();
  expect(queue.used()).toEqual([{ head: request.head, length: 64 }]);
  expect(queue.written(request)).toEqual(Buffer.alloc(64, 0xa5));
  expect(rig.interrupts).toBe(1);
  expect(rig.driver.takeInterrupts()).toBe(1);
});

test('Rng gives a request above the cap only the cap (hostile 47)', () => {
  const rig = new Rig(device());
  const queue = rig.driver.start().queue(0);
  queue.add([], [1 << 20]);
  queue.kick();
  expect(queue.used()).toEqual([{ head: 0, length: 4096 }]);
});

test('Rng returns a chain that has nothing to write to', () => {
  const rig = new Rig(device());
  const queue = rig.driver.start().queue(0);
  queue.add([Uint8Array.of(1, 2, 3)], []);
  queue.kick();
  expect(queue.used()).toEqual([{ head: 0, length: 0 }]);
});
