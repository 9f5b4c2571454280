/** Registers: what only virtio-mmio has. What stands behind them is tested in core.test.ts, by way of them too. */
import { beforeEach, expect, test } from 'vitest';
import { REG, type VirtioMmioState } from '../../../src/virtio/transport/mmio.js';
import { ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, Rig } from '../../support/mock-driver.js';
import { Probe } from '../../support/probe.js';

let device: Probe;
let rig: Rig;
const live = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;

beforeEach(() => {
  device = new Probe();
  rig = new Rig(device);
});

test('VirtioMmio identifies itself (4.2.2)', () => {
  const { registers } = rig;
  expect(registers.read(REG.MagicValue)).toBe(0x74726976);
  expect(registers.read(REG.Version)).toBe(2);
  expect(registers.read(REG.DeviceID)).toBe(42);
  expect(registers.read(REG.VendorID)).toBe(0x4d565354);
  expect(registers.read(REG.Status)).toBe(0);
});

test('VirtioMmio says that there is no shared memory: length -1 (4.2.2)', () => {
  const { registers } = rig;
  registers.write(REG.SHMSel, 3);
  expect([registers.read(REG.SHMLenLow), registers.read(REG.SHMLenHigh)]).toEqual([0xffffffff, 0xffffffff]);
});

test('VirtioMmio takes registers as aligned 32 bits only (4.2.2.2; hostile 25)', () => {
  const { driver, registers } = rig;
  for (const [offset, width] of [
    [0, 1],
    [0, 2],
    [0, 8],
    [1, 4],
    [2, 4],
    [0xfe, 4],
  ] as const) {
    expect([...registers.readBytes(offset, width)]).toEqual(new Array(width).fill(0));
    registers.writeBytes(
      offset + REG.Status > 0xfc ? offset : REG.Status + (offset % 4),
      new Uint8Array(width).fill(1),
    );
  }
  expect(driver.status).toBe(0);
  expect(registers.readBytes(0x1fe, 4)).toEqual(Uint8Array.of(255, 255, 255, 255)); // off the end: nobody's
});

test('VirtioMmio survives any value in any register, for any queue (hostile 16, 25)', () => {
  const { driver, registers } = rig;
  for (const select of [0, 1, 2, 0xffff, 0xffff_ffff]) {
    for (let offset = 0; offset < 0x100; offset += 4) {
      if (offset === REG.Status) continue;
      for (const value of [0, 1, 0xffff_ffff]) {
        registers.write(REG.QueueSel, select);
        registers.write(offset, value);
        registers.read(offset);
      }
    }
  }
  registers.write(REG.QueueSel, 0xffff);
  expect([registers.read(REG.QueueSizeMax), registers.read(REG.QueueReady)]).toEqual([0, 0]);
  expect(driver.start().status).toBe(live);
});

test('VirtioMmio reports interrupts by kind, and forgets what was acknowledged', () => {
  const { driver, registers } = rig;
  driver.start();
  device.context?.configChanged();
  expect(registers.read(REG.InterruptStatus)).toBe(2);
  expect(registers.read(REG.ConfigGeneration)).toBe(1);
  driver.queue(0).add([], [1]);
  const queue = device.queue(0);
  queue.complete(queue.pop()!, 0);
  queue.signal();
  expect(registers.read(REG.InterruptStatus)).toBe(3);
  registers.write(REG.InterruptACK, 2);
  expect(driver.takeInterrupts()).toBe(1);
  expect(registers.read(REG.InterruptStatus)).toBe(0);
  expect(rig.interrupts).toBe(2);
});

test('VirtioMmio serves its fast registers as read() and write() would', () => {
  const { driver, registers } = rig;
  driver.start();
  registers.write(REG.QueueSel, 1);
  device.context?.configChanged();
  const seen = new Set<number>();
  for (const register of rig.registers.slot.fastRegisters) {
    if (register.kind !== 'load') continue;
    seen.add(register.offset);
    expect([...register.cell], `offset ${register.offset}`).toEqual([
      ...registers.readBytes(register.offset, register.cell.length),
    ]);
  }
  for (const offset of [REG.InterruptStatus, REG.Status, REG.QueueSizeMax, REG.ConfigGeneration, 0x100]) {
    expect(seen).toContain(offset);
  }
  const ack = rig.registers.slot.fastRegisters.find((register) => register.kind === 'clear-bits');
  if (ack?.kind !== 'clear-bits') throw new Error('no clear-bits register');
  expect(ack.offset).toBe(REG.InterruptACK);
  Atomics.and(ack.cell, 0, ~2);
  expect(registers.read(REG.InterruptStatus)).toBe(0);
});

test('VirtioMmio has a doorbell for each queue', () => {
  rig.driver.start();
  const doorbells = rig.registers.slot.fastRegisters.filter((register) => register.kind === 'doorbell');
  expect(doorbells.map(({ value, offset }) => [value, offset])).toEqual([
    [0, REG.QueueNotify],
    [1, REG.QueueNotify],
  ]);
  for (const doorbell of doorbells) doorbell.onWrite();
  expect(device.notified).toEqual([0, 1]);
});

test('VirtioMmio locks queues once ready, and all queue registers once live (4.2.2.2; hostile 15)', () => {
  const { driver, registers } = rig;
  driver.negotiate();
  const queue = driver.setUpQueue(0, 8);
  registers.write(REG.QueueSize, 4);
  registers.writeQueueAddresses(0, 0, 0);
  expect(rig.core.counters.refusedWrites).toBe(7);
  driver.setStatus(DRIVER_OK);
  for (const select of [0, 1]) {
    registers.write(REG.QueueSel, select);
    registers.write(REG.QueueReady, 0);
    registers.write(REG.QueueSize, 0x10000);
    registers.writeQueueAddresses(0xffff_ffff, 0xffff_ffff, 0xffff_ffff);
    registers.write(REG.QueueReady, 1);
  }
  registers.write(REG.QueueSel, 0);
  expect(registers.read(REG.QueueReady)).toBe(1);
  queue.add([], [4]);
  const live = device.queue(0);
  expect(live.size).toBe(8);
  live.complete(live.pop()!, 4);
  expect(queue.used()).toEqual([{ head: 0, length: 4 }]);
});

test('VirtioMmio lets a queue be taken back and set up anew before DRIVER_OK', () => {
  const { driver, registers } = rig;
  driver.negotiate();
  driver.setUpQueue(0, 8);
  registers.write(REG.QueueReady, 0);
  expect(registers.read(REG.QueueReady)).toBe(0);
  driver.setUpQueue(0, 4);
  driver.setStatus(DRIVER_OK);
  expect(device.context?.queues[0]?.size).toBe(4);
});

test('VirtioMmio says that a queue it refused is not ready', () => {
  const { driver, registers } = rig;
  driver.negotiate();
  registers.write(REG.QueueSel, 0);
  registers.write(REG.QueueSize, 7);
  registers.write(REG.QueueReady, 1);
  expect(registers.read(REG.QueueReady)).toBe(0);
  expect(driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
});

test('VirtioMmio takes the halves of an address in any order, and again', () => {
  const { driver, registers } = rig;
  driver.negotiate();
  registers.write(REG.QueueSel, 1);
  registers.write(REG.QueueSize, 8);
  registers.writeQueueAddresses(0x9_8765_4000, 0x7_0000_2000, 0x3000);
  registers.write(REG.QueueDriverHigh, 0);
  registers.write(REG.QueueDescHigh, 0);
  registers.write(REG.QueueDescLow, 0x1000);
  registers.write(REG.QueueReady, 1);
  expect(registers.read(REG.QueueReady)).toBe(1);
});

test('VirtioMmio shows every register as at first when a reset is over, and not before', async () => {
  const { driver, registers } = rig;
  const all = (): number[] => Array.from({ length: 64 }, (_, i) => registers.read(4 * i));
  const first = all();
  driver.start();
  registers.write(REG.QueueSel, 1);
  registers.write(REG.DeviceFeaturesSel, 1);
  device.queue(0);
  rig.driver.face.startQueue(1, { size: 1, descAddr: 1, availAddr: 1, usedAddr: 1 });
  device.slowReset = true;
  const done = registers.write(REG.Status, 0);
  expect([registers.read(REG.Status), registers.read(REG.QueueReady)]).toEqual([live, 1]);
  device.finishReset?.();
  await done;
  expect(all()).toEqual(first);
});

test('VirtioMmio.restore() goes on in the middle of a queue’s description, whatever the driver wrote', async () => {
  const { driver, registers } = rig;
  driver.negotiate();
  registers.write(REG.QueueSel, 1);
  registers.write(REG.QueueSize, 4);
  registers.writeQueueAddresses(0x1000, 0x2000, 0);
  registers.write(REG.QueueSel, 0);
  registers.writeQueueAddresses(2 ** 63, 0, 0);
  registers.write(REG.QueueDeviceLow, 0xffff_ffff);
  registers.write(REG.QueueDeviceHigh, 0xffff_ffff);
  registers.write(REG.QueueSel, 1);
  await rig.core.pause();
  const state: VirtioMmioState = JSON.parse(JSON.stringify(registers.slot.save()));
  expect(state.queues[1]).toEqual({
    ...{ size: 4, descAddr: 0x1000, availAddr: 0x2000, usedAddr: 0 },
    ...{ ready: false, position: null },
  });

  device = new Probe();
  const copy = new Rig(device, { regions: rig.memory.regions });
  copy.transport.restore(state);
  copy.core.resume();
  expect(JSON.stringify(state.queues)).toBe(JSON.stringify((await paused(copy)).queues));
  copy.registers.write(REG.QueueDeviceLow, 0x3000);
  copy.registers.write(REG.QueueReady, 1);
  void copy.driver.setStatus(DRIVER_OK);
  expect(device.context?.queues.map((queue) => queue?.size)).toEqual([undefined, 4]);
});

async function paused({ core, registers }: Rig): Promise<VirtioMmioState> {
  await core.pause();
  const state = registers.slot.save();
  core.resume();
  return state;
}
