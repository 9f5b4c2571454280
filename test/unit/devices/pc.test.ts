import { expect, test, vi } from 'vitest';
import type { BusDevice } from '../../../src/bus/bus-device.js';
import { AcpiPower } from '../../../src/devices/pc/acpi-power.js';
import { BootMarks } from '../../../src/devices/pc/boot-marks.js';
import { DebugConsole } from '../../../src/devices/pc/debug-console.js';
import { Rtc } from '../../../src/devices/pc/rtc.js';
import { GIB, MIB } from '../../../src/util/units.js';

function inb(device: BusDevice, offset: number): number {
  const data = new Uint8Array(1);
  device.read(offset, data);
  return data[0] as number;
}

function outb(device: BusDevice, offset: number, value: number): void {
  void device.write(offset, Uint8Array.of(value));
}

test('AcpiPower powers off on S5 only, and resets on the reset value only', () => {
  const onPowerOff = vi.fn();
  const onReset = vi.fn();
  const device = new AcpiPower({ onPowerOff, onReset });
  outb(device, 0, 0x14); // S5 without SLP_EN
  outb(device, 0, 0x20 | (3 << 2)); // S3
  outb(device, 1, 0x34);
  outb(device, 2, 0);
  expect(onPowerOff).not.toHaveBeenCalled();
  expect(onReset).not.toHaveBeenCalled();
  outb(device, 0, 0x34);
  outb(device, 2, 1);
  expect(onPowerOff).toHaveBeenCalledTimes(1);
  expect(onReset).toHaveBeenCalledTimes(1);
  expect([inb(device, 0), inb(device, 1), inb(device, 2)]).toEqual([0, 0, 0]);
});

test('BootMarks tells marks from exit statuses, and reads as the offer and its version', () => {
  const onMark = vi.fn();
  const onExitStatus = vi.fn();
  const device = new BootMarks({ offer: 0x43, version: 7, onMark, onExitStatus });
  const both = new Uint8Array(2);
  device.read(0, both);
  expect([inb(device, 0), inb(device, 1), ...both]).toEqual([0x43, 7, 0x43, 7]);
  outb(device, 0, 1);
  outb(device, 1, 139);
  expect(onMark.mock.calls).toEqual([[1]]);
  expect(onExitStatus.mock.calls).toEqual([[139]]);
});

test('DebugConsole reads 0xE9 and gathers what is written', () => {
  let output = '';
  const onOutput = (bytes: Uint8Array): void => {
    output += Buffer.from(bytes).toString();
  };
  const device = new DebugConsole({ onOutput });
  expect(inb(device, 0)).toBe(0xe9);
  outb(device, 0, 0x53);
  const stream = device.fastRegisters.find((register) => register.kind === 'stream');
  if (stream?.kind !== 'stream') throw new Error('no stream register');
  stream.onBytes(Buffer.from('eaBIOS'));
  expect(output).toBe('SeaBIOS');
});

function cmos(rtc: Rtc, index: number): number {
  outb(rtc, 0, index);
  return inb(rtc, 1);
}

const BCD_TIME = [0x32, 9, 8, 7, 4, 2, 0];

test('Rtc gives the UTC time of its clock in BCD, 24 hours', () => {
  const rtc = new Rtc({ now: () => Date.UTC(2026, 10, 23, 19, 5, 58) });
  expect(BCD_TIME.map((index) => cmos(rtc, index))).toEqual([0x20, 0x26, 0x11, 0x23, 0x19, 0x05, 0x58]);
  expect(cmos(rtc, 6)).toBe(2); // Monday
  expect(cmos(rtc, 0x0a) & 0x80).toBe(0); // never updating
  expect(cmos(rtc, 0x0b)).toBe(0x02);
  expect(cmos(rtc, 0x0d)).toBe(0x80);
  expect(cmos(rtc, 0x8d)).toBe(0x80); // the NMI bit is not part of the index
  expect(inb(rtc, 0)).toBe(0xff);
});

test('Rtc goes on from the time that the guest sets', () => {
  let now = Date.UTC(2026, 10, 23, 19, 5, 58);
  const rtc = new Rtc({ now: () => now });
  outb(rtc, 0, 0x0b);
  outb(rtc, 1, 0x82);
  for (const [i, value] of [0x20, 0x30, 0x02, 0x01, 0x00, 0x00, 0x10].entries()) {
    outb(rtc, 0, BCD_TIME[i] as number);
    outb(rtc, 1, value);
  }
  outb(rtc, 0, 0x0b);
  outb(rtc, 1, 0x02);
  now += 5000;
  expect(BCD_TIME.map((index) => cmos(rtc, index))).toEqual([0x20, 0x30, 0x02, 0x01, 0x00, 0x00, 0x15]);
  const copy = new Rtc({ now: () => now });
  copy.restore(JSON.parse(JSON.stringify(rtc.save())));
  expect(cmos(copy, 0)).toBe(0x15);
});

test('Rtc survives nonsense in every register', () => {
  const rtc = new Rtc({ now: () => 0 });
  for (let index = 0; index < 256; index++) {
    for (const value of [0xff, 0, 0x80]) {
      outb(rtc, 0, index);
      outb(rtc, 1, value);
      inb(rtc, 1);
    }
  }
});

test('Rtc tells firmware the sizes of memory', () => {
  const rtc = new Rtc({
    now: () => 0,
    firmware: { lowMemoryBytes: 3 * GIB, highMemoryBytes: 5 * GIB, cpuCount: 4 },
  });
  const word = (index: number): number => cmos(rtc, index) | (cmos(rtc, index + 1) << 8);
  expect(word(0x15)).toBe(640);
  expect(word(0x17)).toBe(0xffff);
  expect(word(0x30)).toBe(0xffff);
  expect(word(0x34) * 64 * 1024 + 16 * MIB).toBe(3 * GIB);
  expect((word(0x5b) | (cmos(rtc, 0x5d) << 16)) * 64 * 1024).toBe(5 * GIB);
  expect(cmos(rtc, 0x5f)).toBe(3);
  const small = new Rtc({
    now: () => 0,
    firmware: { lowMemoryBytes: 8 * MIB, highMemoryBytes: 0, cpuCount: 1 },
  });
  expect(cmos(small, 0x30) | (cmos(small, 0x31) << 8)).toBe(7 * 1024);
  expect(cmos(small, 0x34)).toBe(0);
});
