import { expect, test } from 'vitest';
import { Console, virtioConsole } from '../../../src/devices/console/console.js';
import { bareHost } from '../../support/bare-host.js';
import { Rig } from '../../support/mock-driver.js';

function setUp() {
  const calls: string[] = [];
  const state = { drains: 0 };
  const device = new Console({
    onOutput: (bytes) => void calls.push(Buffer.from(bytes).toString('latin1')),
    onDrain: () => state.drains++,
    columns: 100,
    rows: 40,
  });
  const rig = new Rig(device);
  rig.driver.start();
  return { calls, state, device, rig, receive: rig.driver.queue(0), transmit: rig.driver.queue(1) };
}

test('Console hands output over in one batch for each kick', () => {
  const { calls, rig, transmit } = setUp();
  transmit.add([Buffer.from('hel'), Buffer.from('lo ')], []);
  transmit.add([Buffer.from('world\n')], []);
  transmit.kick();
  expect(calls).toEqual(['hello world\n']);
  expect(transmit.used().map(({ length }) => length)).toEqual([0, 0]);
  expect(rig.interrupts).toBe(1);
});

test('Console cuts output into bounded batches, and drops what no driver would send at once (hostile 28)', () => {
  const { calls, device, transmit } = setUp();
  transmit.add([new Uint8Array(100_000).fill(0x61)], []);
  transmit.kick();
  expect(calls.map((text) => text.length)).toEqual([16384, 16384, 16384, 16384]);
  expect(device.droppedBytes).toBe(100_000 - 65536);
  expect(transmit.used()).toHaveLength(1);
});

test('Console fills receive buffers with what is typed, one interrupt each time', () => {
  const { device, rig, receive } = setUp();
  const first = receive.add([], [4]);
  const second = receive.add([], [64]);
  receive.kick();
  expect(receive.used()).toEqual([]); // without input no buffer is taken
  expect(device.input(Buffer.from('typed'))).toBe(5);
  expect(receive.used()).toEqual([
    { head: first.head, length: 4 },
    { head: second.head, length: 1 },
  ]);
  expect(Buffer.from(receive.written(first)).toString()).toBe('type');
  expect(rig.interrupts).toBe(1);
});

test('Console keeps input while there are no receive buffers, takes no more than its bound, and says when to go on', () => {
  const { device, state, receive } = setUp();
  expect(device.input(new Uint8Array(20_000))).toBe(16384);
  expect(device.input(new Uint8Array(1))).toBe(0);
  receive.add([], [4096]);
  receive.kick();
  expect(receive.used().map(({ length }) => length)).toEqual([4096]);
  expect(state.drains).toBe(0);
  receive.add([], [4096]);
  receive.kick();
  expect(state.drains).toBe(1);
  expect(device.input(new Uint8Array(100))).toBe(100);
});

test('Console keeps input that comes before the driver', () => {
  const device = new Console({ onOutput: () => {} });
  device.input(Buffer.from('early'));
  const rig = new Rig(device);
  const receive = rig.driver.start().queue(0);
  const request = receive.add([], [16]);
  receive.kick();
  expect(receive.used()).toEqual([{ head: request.head, length: 5 }]);
});

test('Console returns receive buffers that have no room', () => {
  const { device, receive } = setUp();
  receive.add([Uint8Array.of(1)], []);
  receive.add([], [8]);
  device.input(Buffer.from('x'));
  expect(receive.used().map(({ length }) => length)).toEqual([0, 1]);
});

test('Console tells its size, and when it changes (5.3.4)', () => {
  const { device, rig } = setUp();
  expect([rig.driver.config(0, 2), rig.driver.config(2, 2)]).toEqual([100, 40]);
  device.resize(120, 50);
  expect([rig.driver.config(0, 2), rig.driver.config(2, 2)]).toEqual([120, 50]);
  expect(rig.driver.takeInterrupts()).toBe(2);
  expect(rig.driver.generation).toBe(1);
});

test('Console.restore() keeps size and pending input', async () => {
  const { device, rig, receive } = setUp();
  device.resize(90, 30);
  device.input(Buffer.from('pending'));
  await rig.core.pause();
  const state = JSON.parse(JSON.stringify(rig.transport.save()));
  const copy = new Rig(new Console({ onOutput: () => {} }), { regions: rig.memory.regions });
  copy.transport.restore(state);
  expect(copy.driver.config(0, 2)).toBe(90);
  const request = receive.add([], [16]);
  copy.core.resume();
  expect(Buffer.from(receive.written(request)).toString('latin1', 0, 7)).toBe('pending');
  const bad = new Rig(new Console({ onOutput: () => {} }), { regions: rig.memory.regions });
  expect(() => bad.transport.restore({ ...state, device: { version: 1 } })).toThrow(/console/);
});

test('virtioConsole() connects to the host’s console', async () => {
  const host = {
    output: '',
    input: undefined as undefined | { input(bytes: Uint8Array): number },
  };
  const device = await virtioConsole().open(
    bareHost({
      openConsole: () => ({
        onOutput: (bytes) => {
          host.output += Buffer.from(bytes).toString();
        },
        onDrain: () => {},
        connect: (input) => {
          host.input = input;
        },
      }),
    }),
  );
  const rig = new Rig(device);
  rig.driver
    .start()
    .queue(1)
    .add([Buffer.from('out')], []);
  rig.driver.queue(1).kick();
  expect(host.output).toBe('out');
  expect(host.input?.input(Buffer.from('in'))).toBe(2);
});

test('Console.input() asks for more only after it has said how much it took', () => {
  const calls: string[] = [];
  const device = new Console({ onOutput: () => {}, onDrain: () => void calls.push('drain') });
  const receive = new Rig(device).driver.start().queue(0);
  for (let i = 0; i < 6; i++) receive.add([], [4096]);
  calls.push(`took ${device.input(new Uint8Array(60_000))}`);
  for (let i = 0; i < 2; i++) receive.add([], [4096]);
  receive.kick();
  expect(calls).toEqual([`took ${6 * 4096 + 16384}`, 'drain']);
});

test('Console touches no guest memory from drain() to resume(), and keeps what is typed', async () => {
  const { device, rig, receive, transmit, calls } = setUp();
  const request = receive.add([], [16]);
  await rig.core.pause();
  const before = rig.memory.read(0, rig.memory.sizeBytes);
  device.input(Buffer.from('meanwhile'));
  expect(Buffer.compare(rig.memory.read(0, rig.memory.sizeBytes), before)).toBe(0);
  transmit.add([Buffer.from('later')], []);
  transmit.kick();
  expect(calls).toEqual([]);
  rig.core.resume();
  expect(receive.used()).toEqual([{ head: request.head, length: 9 }]);
  expect(calls).toEqual(['later']);
});
