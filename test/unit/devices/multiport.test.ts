import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { PortControl } from '../../../src/devices/backends/console.js';
import { Console, consoleKind, virtioConsole } from '../../../src/devices/console/console.js';
import { DUE } from '../../../src/devices/console/control.js';
import { INPUT_QUEUE_BYTES } from '../../../src/devices/console/port.js';
import { bareHost } from '../../support/bare-host.js';
import { budget } from '../../support/fuzz.js';
import { BAD_CHAINS } from '../../support/hostile-chains.js';
import { DRIVER_OK, type MockQueue, NEEDS_RESET, Rig } from '../../support/mock-driver.js';

// struct virtio_console_control
const DEVICE_READY = 0;
const ADD = 1;
const PORT_READY = 3;
const CONSOLE_PORT = 4;
const RESIZE = 5;
const OPEN = 6;
const NAME = 7;
/** VIRTIO_CONSOLE_BAD_ID: about the device, not a port. */
const NO_PORT = 0xffff_ffff;

/** A host's end of a port that keeps what it is told. */
class Recorder {
  output = '';
  readonly opens: boolean[] = [];
  drains = 0;
  /** Calls of onOutput to accept before one is refused. */
  patience = Number.POSITIVE_INFINITY;

  onOutput(bytes: Uint8Array): boolean {
    this.output += Buffer.from(bytes).toString('latin1');
    return --this.patience > 0;
  }

  onDrain(): void {
    this.drains++;
  }

  onOpen(open: boolean): void {
    this.opens.push(open);
  }
}

function makeDevice(terminal = false) {
  const hosts = [new Recorder(), new Recorder()] as const;
  const printed: string[] = [];
  const device = new Console({
    ...(terminal && { onOutput: (bytes: Uint8Array) => void printed.push(Buffer.from(bytes).toString()) }),
    columns: 100,
    rows: 40,
    ports: [
      { name: 'first', host: hosts[0] },
      { name: 'second', host: hosts[1] },
    ],
  });
  return { device, hosts, printed };
}

/** Plays Linux's drivers/char/virtio_console.c on the control queues. */
class ControlDriver {
  readonly rig: Rig;
  readonly #buffers: { head: number; writable: readonly { addr: number; length: number }[] }[] = [];

  constructor(rig: Rig, buffers = 16) {
    this.rig = rig;
    rig.driver.start();
    for (let i = 0; i < buffers; i++) this.#buffers.push(this.receive.add([], [64]));
    this.receive.kick();
  }

  get receive(): MockQueue {
    return this.rig.driver.queue(2);
  }

  get transmit(): MockQueue {
    return this.rig.driver.queue(3);
  }

  addBuffer(length = 64): void {
    this.#buffers.push(this.receive.add([], [length]));
    this.receive.kick();
  }

  send(id: number, event: number, value: number): void {
    const message = Buffer.alloc(8);
    message.writeUInt32LE(id, 0);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    this.sendBytes(message);
  }

  sendBytes(message: Uint8Array): void {
    this.transmit.add([message], []);
    this.transmit.kick();
  }

  /** Messages since the last call: id, event, value, what follows. */
  take(): (string | number)[][] {
    return this.receive.used().map(({ head, length }) => {
      const buffer = this.#buffers.find((candidate) => candidate.head === head);
      if (buffer === undefined) throw new Error(`head ${head}`);
      this.#buffers.splice(this.#buffers.indexOf(buffer), 1);
      const bytes = Buffer.from(this.rig.memory.read(buffer.writable[0]?.addr ?? 0, length));
      if (length < 8) return [];
      const fixed = [bytes.readUInt32LE(0), bytes.readUInt16LE(4), bytes.readUInt16LE(6)];
      return length > 8 ? [...fixed, bytes.toString('latin1', 8)] : fixed;
    });
  }

  /** A driver that adds every port and opens it. */
  setUp(ids: readonly number[]): this {
    this.send(NO_PORT, DEVICE_READY, 1);
    for (const id of ids) this.send(id, PORT_READY, 1);
    for (const id of ids) this.send(id, OPEN, 1);
    this.take();
    return this;
  }
}

function setUp(terminal = false) {
  const made = makeDevice(terminal);
  const rig = new Rig(made.device);
  const control = new ControlDriver(rig).setUp(terminal ? [0, 1, 2] : [1, 2]);
  const [, first, second] = made.device.ports as readonly PortControl[] as [never, PortControl, PortControl];
  return { ...made, rig, control, first, second };
}

test('Console without ports does not offer MULTIPORT and has two queues (5.3.3)', () => {
  const device = new Console({ onOutput: () => {} });
  expect(device.features).toBe(1n);
  expect(device.queueSizes).toEqual([64, 64]);
});

test('Console with ports has the queues of 5.3.2 and says how many ports there are (5.3.4)', () => {
  const { device } = makeDevice();
  expect(device.features).toBe(3n);
  expect(device.queueSizes).toHaveLength(8);
  const rig = new Rig(device);
  expect(rig.driver.config(4, 4)).toBe(3);
});

test('Console adds its ports when the driver is ready, and names and opens each that is (5.3.6.2)', () => {
  const { device } = makeDevice();
  const control = new ControlDriver(new Rig(device));
  expect(control.take()).toEqual([]);
  control.send(NO_PORT, DEVICE_READY, 1);
  expect(control.take()).toEqual([
    [1, ADD, 1],
    [2, ADD, 1],
  ]);
  control.send(2, PORT_READY, 1);
  control.send(1, PORT_READY, 1);
  expect(control.take()).toEqual([
    [2, NAME, 1, 'second'],
    [2, OPEN, 1],
    [1, NAME, 1, 'first'],
    [1, OPEN, 1],
  ]);
});

test('Console makes port 0 a console and tells its size, if there is a terminal (5.3.6.2)', () => {
  const { device } = makeDevice(true);
  const control = new ControlDriver(new Rig(device));
  control.send(NO_PORT, DEVICE_READY, 1);
  expect(control.take().map(([id]) => id)).toEqual([0, 1, 2]);
  control.send(0, PORT_READY, 1);
  const size = (columns: number, rows: number) => String.fromCharCode(columns, 0, rows, 0);
  expect(control.take()).toEqual([
    [0, CONSOLE_PORT, 1],
    [0, RESIZE, 0, size(100, 40)],
    [0, OPEN, 1],
  ]);
  device.resize(90, 30);
  expect(control.take()).toEqual([[0, RESIZE, 0, size(90, 30)]]);
});

test('Console answers before it returns the message, so that Linux finds the answer without waiting', () => {
  const { device } = makeDevice();
  const control = new ControlDriver(new Rig(device));
  control.send(NO_PORT, DEVICE_READY, 1);
  control.transmit.used();
  const before = control.receive.usedIdx;
  control.send(1, PORT_READY, 1);
  expect([control.receive.usedIdx - before, control.transmit.used().length]).toEqual([2, 1]);
});

test('Console keeps messages until there are control buffers, and skips those that are too small', () => {
  const { device } = makeDevice();
  const control = new ControlDriver(new Rig(device), 1);
  control.send(NO_PORT, DEVICE_READY, 1);
  expect(control.take()).toEqual([[1, ADD, 1]]);
  control.addBuffer(7);
  expect(control.take()).toEqual([[]]);
  control.addBuffer();
  expect(control.take()).toEqual([[2, ADD, 1]]);
});

test('Console answers a flood of requests once, however long it was (5.3.6.2)', () => {
  const { device, hosts } = makeDevice();
  const control = new ControlDriver(new Rig(device), 0);
  for (let i = 0; i < 300; i++) {
    control.send(NO_PORT, DEVICE_READY, 1);
    control.send(1, PORT_READY, 1);
    control.send(1, OPEN, 1);
  }
  for (let i = 0; i < 8; i++) control.addBuffer();
  expect(control.take()).toEqual([
    [1, ADD, 1],
    [1, NAME, 1, 'first'],
    [1, OPEN, 1],
    [2, ADD, 1],
  ]);
  expect(hosts[0].opens).toEqual([true]);
});

test('Console ignores messages that are short, unknown, or about no port of its own', () => {
  const { device, rig, control, hosts } = setUp();
  control.sendBytes(new Uint8Array(7));
  control.sendBytes(Uint8Array.of(1));
  for (const id of [0, 3, 0x7fff, NO_PORT]) {
    for (const event of [PORT_READY, OPEN]) control.send(id, event, 1);
  }
  for (const event of [ADD, 2, CONSOLE_PORT, RESIZE, NAME, 8, 0xffff]) control.send(1, event, 1);
  expect(device.ignoredMessages).toBe(2 + 8 + 7);
  control.send(1, PORT_READY, 0); // could not add it
  control.send(NO_PORT, DEVICE_READY, 0);
  expect(control.take()).toEqual([]);
  expect(rig.failures).toEqual([]);
  expect(hosts[0].opens).toEqual([true]);
  expect(control.transmit.used()).toHaveLength(5 + 2 + 8 + 7 + 2);
});

test('Console.ports move bytes both ways, each for itself', () => {
  const { rig, hosts, first, second } = setUp();
  const out = rig.driver.queue(7);
  out.add([Buffer.from('to '), Buffer.from('the host')], []);
  out.kick();
  expect([hosts[0].output, hosts[1].output]).toEqual(['', 'to the host']);
  const one = rig.driver.queue(4).add([], [64]);
  const two = rig.driver.queue(6).add([], [64]);
  expect(first.input(Buffer.from('one'))).toBe(3);
  expect(second.input(Buffer.from('second'))).toBe(6);
  expect(rig.driver.queue(4).used()).toEqual([{ head: one.head, length: 3 }]);
  expect(rig.driver.queue(6).used()).toEqual([{ head: two.head, length: 6 }]);
});

test('Console gives a port no input until the guest opened it, and none after it closed it (5.3.6.2)', () => {
  const { device, hosts } = makeDevice();
  const rig = new Rig(device);
  const control = new ControlDriver(rig);
  control.send(NO_PORT, DEVICE_READY, 1);
  const receive = rig.driver.queue(4);
  receive.add([], [8]);
  receive.add([], [8]);
  device.ports[1]?.input(Buffer.from('early'));
  receive.kick();
  expect(receive.used()).toEqual([]);
  control.send(1, OPEN, 1);
  expect(receive.used().map(({ length }) => length)).toEqual([5]);
  control.send(1, OPEN, 0);
  device.ports[1]?.input(Buffer.from('late'));
  expect(receive.used()).toEqual([]);
  control.send(1, OPEN, 1);
  expect(receive.used().map(({ length }) => length)).toEqual([4]);
  expect(hosts[0].opens).toEqual([true, false, true]);
});

test('Port.input() is bounded, and the host is told when there is room again', () => {
  const { rig, hosts, first } = setUp();
  expect(first.input(new Uint8Array(INPUT_QUEUE_BYTES + 5))).toBe(INPUT_QUEUE_BYTES);
  expect(first.input(new Uint8Array(1))).toBe(0);
  const receive = rig.driver.queue(4);
  receive.add([], [INPUT_QUEUE_BYTES - 1]);
  receive.kick();
  expect(hosts[0].drains).toBe(1);
});

test('Port.close() ends the guest’s input after all that was taken (5.3.6.2)', () => {
  const { rig, control, first } = setUp();
  first.input(Buffer.from('last words'));
  first.close();
  expect(first.input(Buffer.from('!'))).toBe(1); // to nowhere
  expect(control.take()).toEqual([]);
  const receive = rig.driver.queue(4);
  receive.add([], [4]);
  receive.kick();
  expect(control.take()).toEqual([]);
  receive.add([], [64]);
  receive.kick();
  expect(receive.used().map(({ length }) => length)).toEqual([4, 6]);
  expect(control.take()).toEqual([[1, OPEN, 0]]);
  first.close();
  expect(control.take()).toEqual([]);
});

test('Port.close() lets what the guest writes go nowhere, also what the host had refused', () => {
  const { rig, hosts, second } = setUp();
  hosts[1].patience = 1;
  const out = rig.driver.queue(7);
  for (const text of ['a', 'b', 'c']) {
    out.add([Buffer.from(text)], []);
    out.kick();
  }
  expect([hosts[1].output, out.used().length]).toEqual(['a', 1]);
  second.close();
  expect([hosts[1].output, out.used().length]).toEqual(['a', 2]);
});

test('Port stops taking output when the host refuses, and goes on from there', () => {
  const { rig, hosts, second } = setUp();
  hosts[1].patience = 1;
  const out = rig.driver.queue(7);
  out.add([new Uint8Array(40_000).fill(0x61)], []); // one buffer is taken whole
  out.add([Buffer.from('more')], []);
  out.kick();
  expect([hosts[1].output.length, out.used().length]).toEqual([40_000, 1]);
  out.kick();
  expect(out.used()).toEqual([]);
  hosts[1].patience = Number.POSITIVE_INFINITY;
  second.resumeOutput();
  expect([hosts[1].output.slice(40_000), out.used().length]).toEqual(['more', 1]);
});

test('Port keeps the order when the host resumes from within onOutput', () => {
  const { rig, hosts, second } = setUp();
  hosts[1].onOutput = (bytes) => {
    hosts[1].output += Buffer.from(bytes).toString('latin1');
    second.resumeOutput();
    return true;
  };
  const out = rig.driver.queue(7);
  const text = Array.from({ length: 9 }, (_, i) => String(i).repeat(5000));
  for (const part of text) out.add([Buffer.from(part)], []);
  out.kick();
  expect(hosts[1].output).toBe(text.join(''));
});

test('Port takes up to 1 MiB of one buffer and drops the rest (hostile 28)', () => {
  const { device, rig, hosts } = setUp();
  const out = rig.driver.queue(7);
  const addr = rig.driver.allocate(1 << 20);
  out.addDescriptors([
    { addr, length: 1 << 20 },
    { addr, length: 5 },
  ]);
  out.kick();
  expect([hosts[1].output.length, device.droppedBytes, out.used().length]).toEqual([1 << 20, 5, 1]);
});

test('Console.reset() closes the guest’s ends; input and the host’s ends stay', async () => {
  const { rig, hosts, first, second } = setUp();
  first.input(Buffer.from('kept'));
  second.close();
  await rig.driver.reset();
  expect(hosts[0].opens).toEqual([true, false]);
  const control = new ControlDriver(rig);
  control.send(NO_PORT, DEVICE_READY, 1);
  control.take();
  control.send(2, PORT_READY, 1);
  expect(control.take()).toEqual([
    [2, NAME, 1, 'second'],
    [2, OPEN, 0],
  ]);
  const receive = rig.driver.queue(4);
  receive.add([], [64]);
  control.send(1, OPEN, 1);
  expect(receive.used().map(({ length }) => length)).toEqual([4]);
});

test('Console with ports serves a driver that does not accept MULTIPORT as one terminal (5.3.5)', () => {
  const { device, printed, hosts } = makeDevice(true);
  const rig = new Rig(device);
  rig.driver.start({ features: rig.driver.offeredFeatures() & ~2n });
  rig.driver.queue(1).add([Buffer.from('text')], []);
  rig.driver.queue(0).add([], [8]);
  for (const queue of rig.driver.queues) queue.kick();
  device.input(Buffer.from('x'));
  device.ports[1]?.input(Buffer.from('nowhere'));
  device.ports[1]?.close();
  expect(printed).toEqual(['text']);
  expect(rig.driver.queue(0).used()).toHaveLength(1);
  expect(hosts[0].opens).toEqual([]);
  device.resize(1, 2);
  expect(rig.driver.takeInterrupts()).toBe(3);
});

async function saved(rig: Rig) {
  await rig.core.pause();
  return JSON.parse(JSON.stringify(rig.transport.save()));
}

test('Console.restore() keeps bytes, open ends and messages that are due', async () => {
  const { rig, control, first } = setUp();
  first.input(Buffer.from('pending'));
  first.close();
  control.send(2, OPEN, 0);
  const state = await saved(rig);
  const copy = makeDevice();
  const after = new Rig(copy.device, { regions: rig.memory.regions });
  after.transport.restore(state);
  expect([copy.hosts[0].opens, copy.hosts[1].opens]).toEqual([[true], []]);
  rig.driver.queue(4).add([], [64]);
  after.core.resume();
  expect(
    rig.driver
      .queue(4)
      .used()
      .map(({ length }) => length),
  ).toEqual([7]);
  expect(control.take()).toEqual([[1, OPEN, 0]]);
});

test('Console.restore() sends what was due, and takes what was refused', async () => {
  const { device, hosts } = makeDevice();
  const rig = new Rig(device);
  const control = new ControlDriver(rig, 0);
  control.send(NO_PORT, DEVICE_READY, 1);
  hosts[1].patience = 1;
  const out = rig.driver.queue(7);
  for (const text of ['before', 'after']) {
    out.add([Buffer.from(text)], []);
    out.kick();
  }
  const state = await saved(rig);
  const copy = makeDevice();
  const after = new Rig(copy.device, { regions: rig.memory.regions });
  after.transport.restore(state);
  control.addBuffer();
  after.core.resume();
  expect(control.take()).toEqual([[1, ADD, 1]]);
  expect([hosts[1].output, copy.hosts[1].output]).toEqual(['before', 'after']);
});

test('Port.setHostOpen() tells the guest, which waits while nobody is there', () => {
  const { rig, control, hosts, first: port } = setUp();
  port.input(Buffer.from('last words'));
  port.setHostOpen(false);
  port.setHostOpen(false);
  expect(control.take()).toEqual([]);
  rig.driver.queue(4).add([], [64]);
  rig.driver.queue(4).kick();
  expect(control.take()).toEqual([[1, OPEN, 0]]);
  const transmit = rig.driver.queue(5);
  transmit.add([Buffer.from('waits')], []);
  transmit.kick();
  expect([transmit.used(), hosts[0].output]).toEqual([[], '']);
  port.setHostOpen(true);
  expect(control.take()).toEqual([[1, OPEN, 1]]);
  expect([transmit.used().length, hosts[0].output]).toEqual([1, 'waits']);
});

test('Console.restore() tells the guest of a host’s side that is not what it was', async () => {
  const { rig } = setUp();
  const state = await saved(rig);
  const copy = makeDevice();
  (copy.device.ports[2] as PortControl).setHostOpen(false);
  const after = new Rig(copy.device, { regions: rig.memory.regions });
  after.transport.restore(state);
  expect(copy.device.save()).toMatchObject({ due: [0, 0, DUE.OPEN] });
});

test('consoleKind.fromCli() takes names and sockets', () => {
  const request = consoleKind.fromCli('log=/tmp/log.sock,org.x.agent-0=/tmp/a=b');
  const ports = [
    { name: 'log', path: '/tmp/log.sock' },
    { name: 'org.x.agent-0', path: '/tmp/a=b' },
  ];
  expect(request.config).toEqual({ console: false, ports });
  expect(consoleKind.fromConfig(request.config).config).toEqual(request.config);
  for (const [text, message] of [
    ['', /the name ''/],
    ['=x', /the name ''/],
    ['a b=x', /the name 'a b'/],
    [`${'x'.repeat(33)}=x`, /1 to 32/],
    ['log', /log: it needs the path/],
    ['log=', /log: it needs the path/],
    ['log=a,log=b', /log: it is there twice/],
    [Array.from({ length: 31 }, (_, i) => `p${i}=x`).join(), /31 are more than 30/],
  ] as const) {
    expect(() => consoleKind.fromCli(text), text).toThrow(message);
  }
});

test('Console.restore() refuses states that no device saves (hostile 50)', async () => {
  const { rig } = setUp();
  const state = await saved(rig);
  const { device } = state;
  const [port] = device.ports;
  const bad: unknown[] = [
    { version: 1 },
    { ...device, version: 2 },
    { ...device, rows: -1 },
    { ...device, columns: 65536 },
    { ...device, due: [0, 0] },
    { ...device, due: [0, 0, DUE.OPEN * 2] },
    { ...device, due: [0, 0, -1] },
    { ...device, due: [0, 0, 'x'] },
    { ...device, ports: [port, port] },
    { ...device, ports: [port, port, null] },
    { ...device, ports: [port, port, { ...port, pending: new Array(INPUT_QUEUE_BYTES + 1).fill(0) }] },
    { ...device, ports: [port, port, { ...port, pending: 'text' }] },
    { ...device, ports: [port, port, { ...port, closed: 1 }] },
    { ...device, ports: [port, port, { ...port, hostOpen: 1 }] },
    { ...device, ports: [port, port, { ...port, guestOpen: undefined }] },
  ];
  for (const one of bad) {
    const copy = new Rig(makeDevice().device, { regions: rig.memory.regions });
    expect(
      () => copy.transport.restore({ ...state, device: one }),
      JSON.stringify(one).slice(0, 200),
    ).toThrow(/console/);
  }
});

test.each(BAD_CHAINS.filter(({ ramBytes }) => ramBytes === undefined))(
  'Console with ports survives $name on every queue',
  async ({ build, features }) => {
    for (let index = 0; index < 8; index++) {
      const { device } = makeDevice(true);
      const rig = new Rig(device);
      rig.driver.start({ features: (features ?? ((offered) => offered))(rig.driver.offeredFeatures()) });
      for (const id of [0, 1, 2]) device.ports[id]?.setGuestOpen(true);
      if (index === 2) new ControlMessage(rig).send(NO_PORT, DEVICE_READY, 1);
      const queue = rig.driver.queue(index);
      queue.rawPublish(build(queue, rig));
      queue.kick();
      for (const port of device.ports) port.input(Buffer.from('x'));
      expect(rig.driver.status & NEEDS_RESET, `queue ${index}`).toBe(NEEDS_RESET);
      await rig.driver.reset();
      expect(rig.driver.start().status & DRIVER_OK).toBe(DRIVER_OK);
      expect(rig.failures).toHaveLength(1);
    }
  },
);

/** A message through control queue 3, and nothing else. */
class ControlMessage {
  readonly #rig: Rig;

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  send(id: number, event: number, value: number): void {
    const message = Buffer.alloc(8);
    message.writeUInt32LE(id, 0);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    const queue = this.#rig.driver.queue(3);
    queue.add([message], []);
    queue.kick();
  }
}

test('consoleKind.fromConfig() makes the request again, and checks it', async () => {
  const request = virtioConsole({ console: false, ports: ['a', 'b'] });
  expect(consoleKind.fromConfig(JSON.parse(JSON.stringify(request.config))).config).toEqual(request.config);
  for (const config of [
    { ports: 'a' },
    { ports: [''] },
    { ports: [1] },
    { ports: ['a', 'a'] },
    { ports: [{ name: 'a', path: '' }] },
    { ports: [{ path: 'x' }] },
    { ports: [{ name: 'a', path: 'x', more: 1 }] },
    { console: 1 },
    { port: [] },
    null,
  ]) {
    expect(() => consoleKind.fromConfig(config), JSON.stringify(config)).toThrow(/console/);
  }
  expect(() => consoleKind.fromConfig({ ports: new Array(31).fill('a') })).toThrow(/ports/);
  expect(() => consoleKind.fromConfig({ ports: ['x'.repeat(33)] })).toThrow(/ports/);
});

test('virtioConsole() asks the host for its ports by name, and connects them', async () => {
  const asked: string[] = [];
  const controls: PortControl[] = [];
  const host = new Recorder();
  const device = await virtioConsole({ console: false, ports: ['a', 'b'] }).open(
    bareHost({
      openPort: (name) => {
        asked.push(name);
        return {
          onOutput: (bytes) => host.onOutput(bytes),
          onDrain: () => {},
          onOpen: (open) => host.onOpen(open),
          connect: (control) => void controls.push(control),
        };
      },
    }),
  );
  expect(asked).toEqual(['a', 'b']);
  const rig = new Rig(device);
  new ControlDriver(rig).setUp([1, 2]);
  expect(host.opens).toEqual([true, true]);
  rig.driver.queue(6).add([], [8]);
  expect(controls[1]?.input(Buffer.from('b'))).toBe(1);
  expect(rig.driver.queue(6).used()).toHaveLength(1);
});

test('Console with ports survives any sequence of messages, buffers and calls, and loses and repeats no byte', async () => {
  const id = fc.constantFrom(0, 1, 2, 3, NO_PORT);
  const action = fc.oneof(
    fc.record({ kind: fc.constant('message' as const), id, event: fc.nat(9), value: fc.nat(2) }),
    fc.record({ kind: fc.constant('short' as const), length: fc.nat(9) }),
    fc.record({ kind: fc.constant('room' as const), queue: fc.constantFrom(0, 2, 4, 6), length: fc.nat(40) }),
    fc.record({ kind: fc.constant('write' as const), port: fc.constantFrom(1, 2), length: fc.nat(40) }),
    fc.record({ kind: fc.constant('input' as const), port: fc.constantFrom(1, 2), length: fc.nat(40) }),
    fc.record({ kind: fc.constant('resume' as const), port: fc.constantFrom(1, 2) }),
    fc.record({ kind: fc.constant('save' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      const { device, hosts } = makeDevice();
      const rig = new Rig(device);
      const driver = rig.driver.start();
      const [sent, taken] = [
        ['', ''],
        ['', ''],
      ];
      const room = new Map<
        number,
        { head: number; writable: readonly { addr: number; length: number }[] }[]
      >();
      let [out, next] = ['', 0];
      const bytes = (length: number) => Buffer.from(Array.from({ length }, () => (next = (next + 1) & 0xff)));
      const collect = (): void => {
        for (const port of [1, 2]) {
          for (const { head, length } of driver.queue(2 * port + 2).used()) {
            const waiting = room.get(2 * port + 2) ?? [];
            const index = waiting.findIndex((candidate) => candidate.head === head);
            const [buffer] = waiting.splice(index, 1);
            const addr = buffer?.writable[0]?.addr ?? 0;
            taken[port - 1] += Buffer.from(rig.memory.read(addr, length)).toString('latin1');
          }
        }
      };
      for (const one of actions) {
        if (one.kind === 'message' || one.kind === 'short') {
          const message = Buffer.alloc(one.kind === 'short' ? one.length : 8);
          if (one.kind === 'message') {
            message.writeUInt32LE(one.id, 0);
            message.writeUInt16LE(one.event, 4);
            message.writeUInt16LE(one.value, 6);
          }
          driver.queue(3).add([message], []);
          driver.queue(3).kick();
          expect(driver.queue(3).used()).toHaveLength(1);
        } else if (one.kind === 'room') {
          const waiting = room.get(one.queue) ?? [];
          if (waiting.length < driver.queue(one.queue).size) {
            room.set(one.queue, [...waiting, driver.queue(one.queue).add([], [one.length])]);
            driver.queue(one.queue).kick();
          }
        } else if (one.kind === 'write') {
          hosts[one.port - 1]!.patience = one.length % 3;
          const part = bytes(one.length);
          if (one.port === 1) out += part.toString('latin1');
          driver.queue(2 * one.port + 3).add([part], []);
          driver.queue(2 * one.port + 3).kick();
          device.ports[one.port]?.resumeOutput();
        } else if (one.kind === 'input') {
          const part = bytes(one.length);
          const count = device.ports[one.port]?.input(part) ?? 0;
          sent[one.port - 1] += part.toString('latin1', 0, count);
        } else if (one.kind === 'resume') {
          device.ports[one.port]?.resumeOutput();
        } else {
          await rig.core.pause();
          JSON.stringify(rig.transport.save());
          rig.core.resume();
        }
        collect();
      }
      for (const host of hosts) host.patience = Number.POSITIVE_INFINITY;
      for (const port of device.ports) port.resumeOutput();
      expect(hosts[0].output).toBe(out);
      for (const port of [0, 1]) expect(sent[port]?.startsWith(taken[port] ?? '')).toBe(true);
      expect(rig.failures).toEqual([]);
    }),
    budget(300, 20261124),
  );
}, 30_000);
