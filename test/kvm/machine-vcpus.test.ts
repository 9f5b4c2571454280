/** vCPUs of a whole machine: interrupts, several processors, exceptions, pause and the end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { LAPIC_ADDR, SERIAL_IRQ, SERIAL_PORT } from '../../src/memory/layout.js';
import { temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import {
  addrOf,
  asm64,
  forever,
  idt,
  outByte,
  PIC_VECTOR,
  pic,
  place,
  tiny,
  wideMap,
} from '../support/tiny-kernel.js';

const machineOf = machineFactory(temporaryDirectory());

const HANDLER_OFFSET = 0x4000;
const UART_IER = SERIAL_PORT + 1;
const UART_RECEIVED_DATA = 1;

/** Echoes what it receives, by interrupt, and otherwise sleeps. `.` tells that it is ready, `q` ends it. */
const echoByInterrupt = place({
  0: [
    ...idt.code,
    ...pic.init(SERIAL_IRQ),
    ...outByte(UART_IER, UART_RECEIVED_DATA),
    ...tiny.print('.'),
    ...asm64.sti(),
    ...forever(asm64.hlt()),
  ],
  [HANDLER_OFFSET]: [
    ...asm64.movEdx(SERIAL_PORT),
    ...asm64.inAlDx(),
    ...asm64.outDxAl(),
    ...[0x3c, 0x71, 0x75, tiny.powerOff().length], // cmp al, 'q'; jne past the power-off
    ...tiny.powerOff(),
    ...pic.endOfInterrupt(),
    ...asm64.iretq(),
  ],
  ...idt.pieces({ [PIC_VECTOR + SERIAL_IRQ]: HANDLER_OFFSET }),
});

describe('an interrupt', () => {
  test('of a device wakes a halted vCPU by irqfd', async () => {
    await using guest = await machineOf(echoByInterrupt);
    await guest.machine.start();
    await guest.log.waitFor(/\./);
    for (const letter of 'abc') {
      guest.machine.console.write(Buffer.from(letter));
      await guest.log.waitFor(new RegExp(letter));
    }
    guest.machine.console.write(Buffer.from('q'));
    expect(await guest.machine.wait()).toMatchObject({ kind: 'power-off' });
    expect(guest.log.text).toBe('.abcq');
  });

  test('comes once for each byte of a burst, and none is lost', async () => {
    const burst = 'The quick brown fox jumps over the lazy dog. '.repeat(40).replaceAll('q', 'k');
    await using guest = await machineOf(echoByInterrupt);
    await guest.machine.start();
    await guest.log.waitFor(/\./);
    guest.machine.console.write(Buffer.from(`${burst}q`));
    expect(await guest.machine.wait()).toMatchObject({ kind: 'power-off' });
    expect(guest.log.text).toBe(`.${burst}q`);
  });

  test('that comes while the machine is paused is taken when it goes on', async () => {
    await using guest = await machineOf(echoByInterrupt);
    await guest.machine.start();
    await guest.log.waitFor(/\./);
    await guest.machine.pause();
    guest.machine.console.write(Buffer.from('x'));
    await sleep(50);
    expect(guest.log.text).toBe('.');
    await guest.machine.resume();
    await guest.log.waitFor(/x/);
  });

  test('of the PIT comes again and again', async () => {
    const image = place({
      0: [
        ...idt.code,
        ...pic.init(0),
        ...outByte(0x43, 0x34), // channel 0, low and high byte, rate generator
        ...outByte(0x40, 0x9b), // 1193 cycles of 838 ns: 1 ms
        ...outByte(0x40, 0x04),
        ...asm64.movEcx(0),
        ...asm64.sti(),
        ...forever(asm64.hlt()),
      ],
      [HANDLER_OFFSET]: [
        ...tiny.print('t'),
        ...pic.endOfInterrupt(),
        ...[0xff, 0xc1, 0x83, 0xf9, 10, 0x75, tiny.powerOff().length], // inc ecx; cmp ecx, 10; jne
        ...tiny.powerOff(),
        ...asm64.iretq(),
      ],
      ...idt.pieces({ [PIC_VECTOR]: HANDLER_OFFSET }),
    });
    await using guest = await machineOf(image);
    const { output } = await guest.run();
    expect(output.toString()).toBe('t'.repeat(10));
  });
});

describe('an exception', () => {
  test('that the guest handles never leaves it: int3, with the help of the host profile where it needs any', async () => {
    const image = place({
      0: [
        ...idt.code,
        ...tiny.print('a'),
        ...asm64.int3(),
        ...tiny.print('c'),
        ...asm64.int3(),
        ...tiny.powerOff(),
      ],
      [HANDLER_OFFSET]: [...tiny.print('b'), ...asm64.iretq()],
      ...idt.pieces({ 3: HANDLER_OFFSET }),
    });
    await using guest = await machineOf(image);
    const { end, output } = await guest.run();
    expect(end).toMatchObject({ kind: 'power-off' });
    expect(output.toString()).toBe('abcb');
  });

  test('a fault in a handler that faults is a triple fault', async () => {
    const fault = [0x0f, 0x0b]; // ud2
    const image = place({ 0: [...idt.code, ...tiny.print('x'), ...fault], ...idt.pieces({}) });
    await using guest = await machineOf(image);
    const { end, output } = await guest.run();
    expect(end).toEqual({ kind: 'triple-fault' });
    expect(output.toString()).toBe('x');
  });
});

const LAPIC = { SVR: 0xf0, ICR_LOW: 0x300, ICR_HIGH: 0x310 } as const;
const AP_START_ADDR = 0x8000;
const AP_CODE_OFFSET = 0x5000;

/** Starts every other vCPU by INIT and SIPI at 0x8000, where `apCode` (16-bit) was copied. */
function startOthers(apCode: readonly number[], cpus: number) {
  const lapic = (register: number, value: number) => [
    ...asm64.movEdi(LAPIC_ADDR + register),
    ...asm64.movEax(value),
    ...asm64.storeEax(),
  ];
  const ipi = (id: number, command: number) => [
    ...lapic(LAPIC.ICR_HIGH, id * 0x100_0000),
    ...lapic(LAPIC.ICR_LOW, command),
  ];
  const others = Array.from({ length: cpus - 1 }, (_, i) => i + 1);
  return {
    code: [
      ...wideMap.code,
      ...asm64.movEsi(addrOf(AP_CODE_OFFSET)),
      ...asm64.movEdi(AP_START_ADDR),
      ...asm64.movEcx(apCode.length),
      ...asm64.repMovsb(),
      ...lapic(LAPIC.SVR, 0x1ff),
      ...others.flatMap((id) => ipi(id, 0x4500)), // INIT, assert
      ...others.flatMap((id) => ipi(id, 0x4600 | (AP_START_ADDR >>> 12))), // SIPI
    ],
    pieces: { ...wideMap.pieces(), [AP_CODE_OFFSET]: apCode },
  };
}

/** 16-bit: mov dx, PORT; mov al, VALUE; out dx, al */
const out16 = (port: number, value: number) => [0xba, port & 0xff, port >>> 8, 0xb0, value, 0xee];
const MARK_PORT = 0x5f0;

describe('several vCPUs', () => {
  test.each([2, 4])('start by INIT and SIPI from the first: %d', async (cpus) => {
    // Each marks its APIC id: mov eax, 1; cpuid; shr ebx, 24; mov al, bl; mov dx, MARK; out dx, al; hlt
    const ap = [
      ...[0x66, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x66, 0xc1, 0xeb, 24, 0x88, 0xd8],
      ...[0xba, MARK_PORT & 0xff, MARK_PORT >>> 8, 0xee, 0xfa, 0xf4, 0xeb, 0xfd],
    ];
    const { code, pieces } = startOthers(ap, cpus);
    await using guest = await machineOf(place({ 0: [...code, ...tiny.sleep()], ...pieces }), { cpus });
    const started = new Set<number>();
    const all = new Promise<void>((resolve) => {
      guest.machine.on('mark', ({ code: id }) => {
        started.add(id);
        if (started.size === cpus - 1) resolve();
      });
    });
    await guest.machine.start();
    await all;
    expect([...started].sort()).toEqual(Array.from({ length: cpus - 1 }, (_, i) => i + 1));
  });

  test('that do I/O at once each get their own answers', async () => {
    // The second writes 'b', the first 'a', for ever, to the same UART.
    const { code, pieces } = startOthers([...out16(SERIAL_PORT, 0x62), 0xeb, 0xf8], 2);
    const image = place({ 0: [...code, ...forever(tiny.print('a'))], ...pieces });
    await using guest = await machineOf(image, { cpus: 2 });
    await guest.machine.start();
    await guest.log.waitFor(/a/);
    await guest.log.waitFor(/b/);
    await guest.machine.pause();
    const length = guest.log.text.length;
    await sleep(50);
    // What was on its way when the machine stopped may still be told, once.
    const settled = guest.log.text.length;
    await sleep(50);
    expect(guest.log.text.length).toBe(settled);
    expect(settled).toBeGreaterThanOrEqual(length);
    await guest.machine.resume();
    await guest.log.waitFor(/b/, settled);
    await guest.log.waitFor(/a/, settled);
    expect(guest.log.text).toMatch(/^[ab]+$/);
  });

  test.each([
    ['power-off', out16(0x600, 0x34), { kind: 'power-off', exitStatus: undefined }],
    ['reset', out16(0x64, 0xfe), { kind: 'reset', exitStatus: undefined }],
  ] as const)('end with the one that asks for it, here the second: %s', async (_name, ap, end) => {
    const { code, pieces } = startOthers([...ap], 2);
    await using guest = await machineOf(place({ 0: [...code, ...tiny.spin()], ...pieces }), { cpus: 2 });
    expect((await guest.run()).end).toEqual(end);
  });

  test('end with a triple fault of one of them', async () => {
    // 16-bit: cli; lidt [0xf0], which is zeroes; mov eax, cr0; or al, 1; mov cr0, eax; mov ax, 0x1234; mov ds, ax
    const ap = [0xfa, 0x0f, 0x01, 0x1e, 0xf0, 0x00, 0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0];
    const badSegment = [0xb8, 0x34, 0x12, 0x8e, 0xd8];
    const { code, pieces } = startOthers([...ap, ...badSegment], 2);
    await using guest = await machineOf(place({ 0: [...code, ...tiny.spin()], ...pieces }), { cpus: 2 });
    expect((await guest.run()).end).toEqual({ kind: 'triple-fault' });
  });

  test('that never start cost nothing and do not keep the machine from ending', async () => {
    await using guest = await machineOf([...tiny.print('x'), ...tiny.powerOff()], { cpus: 64 });
    const { end, output } = await guest.run();
    expect(end).toMatchObject({ kind: 'power-off' });
    expect(output.toString()).toBe('x');
    expect(guest.machine.timeline().exits.total).toBeLessThan(200);
  });

  test('pause and stop although some spin with interrupts off and others sleep or never started', async () => {
    const { code, pieces } = startOthers([...out16(SERIAL_PORT, 0x62), 0xfa, 0xeb, 0xfe], 3);
    const image = place({ 0: [...code, ...tiny.print('a'), ...tiny.sleep()], ...pieces });
    await using guest = await machineOf(image, { cpus: 4 });
    await guest.machine.start();
    await guest.log.waitFor(/(?=.*a)(?=.*b.*b)/);
    for (let i = 0; i < 5; i++) {
      await guest.machine.pause();
      await guest.machine.resume();
    }
    await guest.machine.kill();
    expect(await guest.machine.wait()).toEqual({ kind: 'stopped' });
  });
});
