import { expect, test, vi } from 'vitest';
import { I8042 } from '../../../src/devices/legacy/i8042.js';

const DATA = 0;
const COMMAND = 4;
const OUTPUT_FULL = 0x01;
const INPUT_FULL = 0x02;

function controller() {
  const irq = { trigger: vi.fn() };
  const onReset = vi.fn();
  const device = new I8042({ irq, onReset });
  const inb = (offset: number): number => {
    const data = new Uint8Array(1);
    device.read(offset, data);
    return data[0] as number;
  };
  const outb = (offset: number, value: number): void => device.write(offset, Uint8Array.of(value));
  /** Everything that waits, as a driver's handler reads it. */
  const drain = (): number[] => {
    const bytes = [];
    while ((inb(COMMAND) & OUTPUT_FULL) !== 0) bytes.push(inb(DATA));
    return bytes;
  };
  const command = (value: number, ...args: number[]): number[] => {
    outb(COMMAND, value);
    for (const arg of args) outb(DATA, arg);
    return drain();
  };
  const keyboard = (value: number): number[] => {
    outb(DATA, value);
    return drain();
  };
  return { device, irq, onReset, inb, outb, drain, command, keyboard };
}

/** Does what Linux does, in its order (i8042_controller_check to i8042_enable_kbd_port); returns the command byte that it leaves. */
function probeAsLinux({ command, drain }: ReturnType<typeof controller>): number {
  expect(drain()).toEqual([]); // i8042_flush: a controller that is never empty is none
  expect(command(0xaa)).toEqual([0x55]);
  const [first] = command(0x20);
  expect(command(0x20)).toEqual([first]);
  let control = ((first as number) | 0x10) & ~0x01; // KBDDIS, no KBDINT
  expect(command(0x60, control)).toEqual([]);
  control &= ~0x10;
  control |= 0x01;
  command(0x60, control);
  return control;
}

test('looks to Linux like a controller with a keyboard and without a mouse', () => {
  const at = controller();
  probeAsLinux(at);
  expect(at.command(0xd3, 0x5a)).toEqual([0x5a]);
  expect(at.inb(COMMAND) & 0x20).toBe(0); // not from the mouse: the loop test fails
  expect(at.command(0xa9)).toEqual([0x01]);
  expect(at.keyboard(0xf2)).toEqual([0xfa, 0xab, 0x83]);
  expect(at.keyboard(0xff)).toEqual([0xfa, 0xaa]);
  expect([at.keyboard(0xed), at.keyboard(0x02)]).toEqual([[0xfa], [0xfa]]); // LEDs
  expect([at.keyboard(0xf0), at.keyboard(0)]).toEqual([[0xfa], [0xfa, 2]]); // which set of scan codes?
  expect(at.keyboard(0x01)).toEqual([0xfe]);
});

test.each([
  ['translated, as BIOSes leave it', 0x41, [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]],
  ['as the keyboard sends it', 0x01, [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14]],
])('presses Ctrl-Alt-Del, %s, with an interrupt for every byte', (_, control, codes) => {
  const at = controller();
  at.command(0x60, control);
  at.irq.trigger.mockClear();
  expect(at.device.pressCtrlAltDel()).toBe(true);
  const bytes = [];
  for (let interrupts = 0; interrupts < at.irq.trigger.mock.calls.length; interrupts++)
    bytes.push(at.inb(DATA));
  expect(bytes).toEqual(codes);
  expect(at.drain()).toEqual([]);
});

test('presses nothing while no driver waits for keys', () => {
  const at = controller();
  expect(at.device.pressCtrlAltDel()).toBe(false);
  at.command(0x60, 0x01);
  at.command(0xad);
  expect(at.device.pressCtrlAltDel()).toBe(false);
  at.command(0xae);
  expect(at.device.pressCtrlAltDel()).toBe(true);
});

test('nobody waits to send a command, and a driver that never reads costs nothing more', () => {
  const at = controller();
  at.command(0x60, 0x01);
  for (let i = 0; i < 1000; i++) {
    at.device.pressCtrlAltDel();
    at.outb(DATA, 0xf2);
    expect(at.inb(COMMAND) & INPUT_FULL).toBe(0);
  }
  expect(at.device.save().queue.length).toBeLessThanOrEqual(32);
});

test('tells of what waits already when interrupts are turned on, and says when nobody reads', () => {
  const at = controller();
  at.outb(DATA, 0xf2);
  expect(at.irq.trigger).not.toHaveBeenCalled();
  at.outb(COMMAND, 0x60);
  at.outb(DATA, 0x01);
  expect(at.irq.trigger).toHaveBeenCalledTimes(1);
  const pressed = Array.from({ length: 5 }, () => at.device.pressCtrlAltDel());
  expect(pressed).toEqual([true, true, false, false, false]);
});

test('resets on 0xFE, and on a write to the output port that pulls the line', () => {
  const { outb, onReset } = controller();
  for (const command of [0x20, 0x60, 0xaa, 0xad, 0xa7, 0xff]) outb(COMMAND, command);
  outb(DATA, 0);
  outb(COMMAND, 0xd1);
  outb(DATA, 0xdf);
  expect(onReset).not.toHaveBeenCalled();
  outb(COMMAND, 0xfe);
  expect(onReset).toHaveBeenCalledTimes(1);
  outb(COMMAND, 0xd1);
  outb(DATA, 0xfe);
  expect(onReset).toHaveBeenCalledTimes(2);
});

test('goes on where it was saved: in the middle of a chord and of a command', () => {
  const at = controller();
  at.command(0x60, 0x41);
  at.device.pressCtrlAltDel();
  at.inb(DATA);
  at.outb(COMMAND, 0x60);
  const copy = controller();
  copy.device.restore(at.device.save());
  expect(copy.drain()).toEqual([0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
  copy.outb(DATA, 0x50);
  expect(copy.command(0x20)).toEqual([0x50]);
  expect(() => copy.device.restore({ ...at.device.save(), queue: Array(33).fill(0) })).toThrowError(
    /waiting/,
  );
});
