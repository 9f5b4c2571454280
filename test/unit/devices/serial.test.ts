import { expect, test } from 'vitest';
import { Serial } from '../../../src/devices/pc/serial.js';

const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

function setUp() {
  const rig = { edges: 0, drains: 0, output: '' };
  const serial = new Serial({
    irq: { trigger: () => rig.edges++ },
    onOutput: (bytes) => {
      rig.output += Buffer.from(bytes).toString('latin1');
    },
    onDrain: () => rig.drains++,
  });
  const inb = (offset: number): number => {
    const data = new Uint8Array(1);
    serial.read(offset, data);
    return data[0] as number;
  };
  const outb = (offset: number, value: number): void => serial.write(offset, Uint8Array.of(value));
  const fast = (kind: string, offset: number) =>
    serial.fastRegisters.find((register) => register.kind === kind && register.offset === offset);
  return { rig, serial, inb, outb, fast };
}

test('Serial sends bytes at once, and its transmitter is always empty', () => {
  const { rig, inb, outb } = setUp();
  for (const byte of Buffer.from('hi\n')) {
    expect(inb(LSR) & 0x60).toBe(0x60);
    outb(0, byte);
  }
  expect(rig.output).toBe('hi\n');
  expect(rig.edges).toBe(0);
});

test('Serial raises THRE when its interrupt is enabled, each time anew, and IIR clears it (Linux UART_BUG_THRE, TXEN)', () => {
  const { rig, inb, outb } = setUp();
  for (let round = 1; round <= 2; round++) {
    outb(IER, 2);
    expect(rig.edges).toBe(round);
    expect(inb(IIR)).toBe(0x02);
    expect(inb(IIR)).toBe(0x01);
    outb(IER, 0);
  }
  outb(IER, 2);
  inb(IIR);
  outb(0, 0x41);
  expect(rig.edges).toBe(4);
  expect(inb(IIR)).toBe(0x02);
});

test('Serial gathers output as a stream, except while DLAB or loopback give the register another meaning', () => {
  const { rig, outb, fast } = setUp();
  const stream = fast('stream', 0);
  if (stream?.kind !== 'stream') throw new Error('no stream register');
  expect(stream.enabled[0]).toBe(1);
  stream.onBytes(Buffer.from('batch'));
  expect(rig.output).toBe('batch');
  outb(LCR, 0x83);
  expect(stream.enabled[0]).toBe(0);
  outb(LCR, 0x03);
  outb(MCR, 0x10);
  expect(stream.enabled[0]).toBe(0);
  outb(MCR, 0x0b);
  expect(stream.enabled[0]).toBe(1);
});

test('Serial keeps the load registers equal to what read() gives', () => {
  const { serial, inb, outb, fast } = setUp();
  const cells = [LSR, MSR].map((offset) => {
    const register = fast('load', offset);
    if (register?.kind !== 'load') throw new Error('no load register');
    return { offset, cell: register.cell };
  });
  const check = (): void => {
    for (const { offset, cell } of cells) expect(cell[0]).toBe(inb(offset));
  };
  check();
  serial.input(Uint8Array.of(1));
  check();
  expect(inb(LSR) & 1).toBe(1);
  inb(0);
  check();
  outb(MCR, 0x1a);
  check();
});

test('Serial has the divisor latch behind DLAB', () => {
  const { rig, inb, outb } = setUp();
  outb(LCR, 0x80);
  outb(0, 0x34);
  outb(1, 0x12);
  expect([inb(0), inb(1)]).toEqual([0x34, 0x12]);
  outb(LCR, 0x03);
  expect(inb(IER)).toBe(0);
  expect(rig.output).toBe('');
  outb(SCR, 0x5a);
  expect(inb(SCR)).toBe(0x5a);
  outb(IER, 0xff);
  expect(inb(IER)).toBe(0x0f);
});

test('Serial passes the loopback test by which Linux finds a UART', () => {
  const { rig, inb, outb } = setUp();
  outb(MCR, 0x1a);
  expect(inb(MSR) & 0xf0).toBe(0x90);
  outb(0, 0x55);
  expect(inb(LSR) & 1).toBe(1);
  expect(inb(0)).toBe(0x55);
  expect(rig.output).toBe('');
  outb(MCR, 0);
  expect(inb(MSR)).toBe(0xb0);
});

test('Serial says 16550A: FIFO bits in IIR, none without', () => {
  const { inb, outb } = setUp();
  expect(inb(IIR)).toBe(0x01);
  outb(FCR, 0x01);
  expect(inb(IIR)).toBe(0xc1);
  outb(FCR, 0xe1);
  expect(inb(IIR)).toBe(0xc1);
});

test('Serial interrupts once for input, and tells the trigger level from the timeout', () => {
  const { rig, serial, inb, outb } = setUp();
  outb(FCR, 0x41); // trigger 4
  outb(IER, 1);
  serial.input(Buffer.from('abc'));
  serial.input(Buffer.from('d'));
  expect(rig.edges).toBe(1);
  expect(inb(IIR) & 0x0f).toBe(0x04);
  expect(inb(0)).toBe(0x61);
  expect(inb(IIR) & 0x0f).toBe(0x0c);
  expect([inb(0), inb(0), inb(0)]).toEqual([0x62, 0x63, 0x64]);
  expect(inb(IIR) & 0x0f).toBe(0x01);
  serial.input(Buffer.from('e'));
  expect(rig.edges).toBe(2);
});

test('Serial raises an edge when interrupts are enabled over input that is already there', () => {
  const { rig, serial, outb } = setUp();
  serial.input(Buffer.from('x'));
  expect(rig.edges).toBe(0);
  outb(IER, 1);
  expect(rig.edges).toBe(1);
});

test('Serial holds input back while the guest does not listen, so that opening the port loses none', () => {
  const { serial, inb, outb } = setUp();
  outb(MCR, 0x08);
  serial.input(Buffer.from('piped'));
  outb(FCR, 0x07); // Linux clears the FIFOs when it opens the port
  inb(0); // and drains the data register
  expect(inb(LSR) & 1).toBe(0);
  outb(MCR, 0x0b);
  expect(inb(LSR) & 1).toBe(1);
  expect(String.fromCharCode(...Array.from({ length: 5 }, () => inb(0)))).toBe('piped');
});

test('Serial bounds its input and says when to go on (hostile 28)', () => {
  const { rig, serial, inb, outb } = setUp();
  outb(FCR, 1);
  let taken = 0;
  for (let i = 0; i < 10; i++) taken += serial.input(new Uint8Array(1000));
  expect(taken).toBeLessThan(5000);
  expect(serial.input(new Uint8Array(1))).toBe(0);
  while (rig.drains === 0 && (inb(LSR) & 1) !== 0) inb(0);
  expect(rig.drains).toBe(1);
  expect(serial.input(new Uint8Array(1000))).toBe(1000);
});

test('Serial survives every register and width', () => {
  const { serial } = setUp();
  for (let offset = 0; offset < 8; offset++) {
    for (const width of [1, 2, 4]) {
      if (offset + width > 8) continue;
      serial.write(offset, new Uint8Array(width).fill(0xff));
      serial.read(offset, new Uint8Array(width));
    }
  }
});

test('Serial.restore() goes on where save() was', () => {
  const a = setUp();
  a.outb(FCR, 0x81);
  a.outb(LCR, 0x80);
  a.outb(0, 1);
  a.outb(LCR, 0x03);
  a.outb(MCR, 0x0b);
  a.outb(IER, 5);
  a.outb(SCR, 7);
  a.serial.input(Buffer.from('a line longer than the FIFO'));
  const state = JSON.parse(JSON.stringify(a.serial.save()));
  const b = setUp();
  b.serial.restore(state);
  expect(b.serial.save()).toEqual(state);
  expect(b.rig.edges).toBe(1);
  let text = '';
  while ((b.inb(LSR) & 1) !== 0) text += String.fromCharCode(b.inb(0));
  expect(text).toBe('a line longer than the FIFO');
  expect(() => b.serial.restore({ ...state, version: 2 })).toThrow(/version 2/);
  expect(() => b.serial.restore({ ...state, fifo: new Array(17).fill(0) })).toThrow(/FIFO/);
});
