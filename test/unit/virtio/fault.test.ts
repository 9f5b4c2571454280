/** Errors that devices throw, by where they came from: nothing of them reaches who called from the host's side. */
import { expect, test } from 'vitest';
import { GuestError } from '../../../src/errors.js';
import { createGuestMemory } from '../../../src/memory/guest-memory.js';
import type { VirtioContext, VirtioDevice } from '../../../src/virtio/device.js';
import { CONFIG_OFFSET, REG, VirtioMmio } from '../../../src/virtio/transport/mmio.js';

function setUp() {
  let context: VirtioContext | undefined;
  const device: VirtioDevice = {
    name: 'test',
    deviceId: 42,
    features: 0n,
    queueSizes: [8],
    config: {
      bytes: new Uint8Array(4),
      write() {
        throw new Error('broken');
      },
    },
    activate(given) {
      context = given;
    },
    notify() {},
    reset() {},
    save: () => ({ version: 1 }),
    restore() {},
  };
  const events: string[] = [];
  const irq = { trigger: () => {} };
  const slot = new VirtioMmio({
    device,
    memory: createGuestMemory([{ addr: 0, bytes: new Uint8Array(1 << 16) }]),
    irq,
    events: {
      needsReset: (name, reason) => void events.push(`${name} needs a reset: ${reason}`),
      fault: (name, error) => void events.push(`${name} is broken: ${(error as Error).message}`),
    },
  });
  const write = (offset: number, value: number): void =>
    void slot.write(offset, new Uint8Array(Uint32Array.of(value).buffer));
  for (const status of [1, 3]) write(REG.Status, status);
  write(REG.DriverFeaturesSel, 1);
  write(REG.DriverFeatures, 1); // VERSION_1
  for (const status of [11, 15]) write(REG.Status, status);
  return { events, irq, write, context: context as unknown as VirtioContext };
}

const throwing = (error: Error) => (): never => {
  throw error;
};

test('VirtioMmio reports what a device throws at the driver’s access', () => {
  const { events, write } = setUp();
  write(CONFIG_OFFSET, 1);
  expect(events).toEqual(['test is broken: broken']);
});

test('VirtioContext.enter() sorts what is thrown: the guest’s, or a fault; and forgets a guest that was reset', () => {
  const { events, write, context } = setUp();
  context.enter(throwing(new Error('late')));
  context.enter(throwing(new GuestError('bad address')));
  expect(events).toEqual(['test is broken: late', 'test needs a reset: bad address']);
  write(REG.Status, 0);
  context.enter(throwing(new GuestError('of long ago')));
  expect(events).toHaveLength(2);
  context.enter(throwing(new Error('still broken')));
  expect(events.at(-1)).toBe('test is broken: still broken');
});

test('VirtioContext.configChanged() tells the machine, not who changed it, of an interrupt that fails', () => {
  const { events, irq, context } = setUp();
  irq.trigger = throwing(new Error('EBADF'));
  context.configChanged();
  expect(events).toEqual(['test is broken: EBADF']);
});
