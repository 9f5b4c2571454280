/** Programs that type on a console, and a machine that has ended or breaks down meanwhile: neither is the other's fault. */
import { expect, test } from 'vitest';
import { Terminal } from '../../../src/machine/console.js';
import { Wiring } from '../../../src/machine/wiring.js';
import type { NativeAddon, NativeVm } from '../../../src/native/binding.js';
import { Guard } from '../../../src/util/guard.js';

function setUp(input: (bytes: Uint8Array) => number) {
  const faults: string[] = [];
  const guard = new Guard((where, error) => void faults.push(`${where}: ${(error as Error).message}`));
  const terminal = new Terminal(() => {}, guard);
  const broken = (): never => {
    throw new Error('broken');
  };
  terminal.connect({ input, resize: broken });
  return { faults, terminal };
}

test('Terminal.write() and resize() tell the machine, not who types, of a console that is broken', () => {
  const { faults, terminal } = setUp(() => {
    throw new Error('EBADF: bad file descriptor, write');
  });
  expect(terminal.write(Buffer.from('ls\n'))).toBe(true);
  terminal.resize(80, 25);
  expect(faults).toEqual([
    'the input of the console: EBADF: bad file descriptor, write',
    'the size of the console: broken',
  ]);
});

test('Terminal.disconnect() drops what was not taken, and whoever waits for it waits no longer', () => {
  const { faults, terminal } = setUp(() => 1);
  const told: string[] = [];
  expect(terminal.write(Buffer.from('ls\n'))).toBe(false);
  terminal.onDrain(() => void told.push('drained'));
  terminal.disconnect();
  expect(told).toEqual(['drained']);
  expect([terminal.pending.length, terminal.write(Buffer.from('more'))]).toEqual([0, true]);
  terminal.resize(80, 25);
  expect(faults).toEqual([]);
});

test('an interrupt of a machine that has ended goes nowhere', () => {
  let open = true;
  let signals = 0;
  const event = {
    signal() {
      if (!open) throw new Error('EBADF: bad file descriptor, write');
      signals++;
    },
    close() {
      open = false;
    },
  };
  const addon = { createEventFd: () => event } as unknown as NativeAddon;
  const vm = { irqfd() {} } as unknown as NativeVm;
  const wiring = new Wiring(addon, vm, new Guard(() => {}));
  const irq = wiring.irq(4);
  irq.trigger();
  wiring.close();
  irq.trigger();
  expect(signals).toBe(1);
});
