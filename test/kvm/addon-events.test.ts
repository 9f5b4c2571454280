import { afterEach, expect, test } from 'vitest';
import { loadAddon, type NativeEventFd } from '../../src/native/binding.js';
import { asm, code, TinyGuest } from '../support/guest-code.js';

const GSI = 5;
const MMIO_ADDR = 0xd000_0000;

/** Held here: a listener keeps nothing alive, and a test that waits for one is itself held by nothing else. */
const events: NativeEventFd[] = [];
function eventFd(): NativeEventFd {
  const event = loadAddon().createEventFd();
  events.push(event);
  return event;
}

afterEach(() => {
  for (const event of events.splice(0)) event.close();
});

const out = (port: number, value: number): number[] => [...asm.movAl(value), ...asm.outAl(port)];

/** 8259A data sheet: four initialisation words, vectors from 8, then only line 5 open. */
const initPic = code(
  out(0x20, 0x11),
  out(0x21, 8),
  out(0x21, 4),
  out(0x21, 1),
  out(0x21, 0xff & ~(1 << GSI)),
);
const wait = code(asm.sti(), asm.hlt(), asm.jmp(-3));
/** Says on port 0x80 that the interrupt came. */
const picHandler = code(out(0x20, 0x20), out(0x80, 0x49), asm.iret());

test('irqfd() interrupts a halted guest, once for each signal', async () => {
  using guest = new TinyGuest({ irqchip: true, code: code([...initPic], asm.outAl(0x81), [...wait]) });
  guest.handler(8 + GSI, 0x3000, picHandler);
  const event = eventFd();
  guest.vm.irqfd(event, GSI, true);
  expect(await guest.run()).toMatchObject({ port: 0x81 });
  for (let i = 0; i < 3; i++) {
    const exit = guest.run();
    event.signal();
    expect(await exit).toMatchObject({ kind: 'io', port: 0x80, data: Uint8Array.of(0x49) });
  }
  guest.vm.irqfd(event, GSI, false);
  const exit = guest.run();
  event.signal();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(guest.vcpu.running).toBe(true);
  guest.vcpu.kick();
  expect(await exit).toMatchObject({ kind: 'interrupted' });
  event.close();
});

test('irqLine() raises an edge', async () => {
  using guest = new TinyGuest({ irqchip: true, code: code([...initPic], asm.outAl(0x81), [...wait]) });
  guest.handler(8 + GSI, 0x3000, picHandler);
  await guest.run();
  const exit = guest.run();
  guest.vm.irqLine(GSI, 1);
  guest.vm.irqLine(GSI, 0);
  expect(await exit).toMatchObject({ port: 0x80 });
});

test('ioeventfd() takes port writes of its size and value, the guest runs on', async () => {
  using guest = new TinyGuest({
    code: code(asm.movDx(0x500), asm.movEax(7), asm.outDxAx(), asm.outDxAl(), asm.movEax(8), asm.outDxAx()),
  });
  const event = eventFd();
  const heard = new Promise<void>((resolve) => event.listen(resolve));
  guest.vm.ioeventfd(event, 0, 0x500, 2, 7, true);
  // The first write is taken; one byte, and another value, are not.
  expect(await guest.run()).toMatchObject({ kind: 'io', port: 0x500, size: 1 });
  expect(await guest.run()).toMatchObject({ kind: 'io', port: 0x500, size: 2, data: Uint8Array.of(8, 0) });
  await heard;
  event.close();
});

test('ioeventfd() takes memory writes of any value until it is taken back', async () => {
  const body = code(asm.movDi(0x50), asm.storeEsDiEax(), asm.outAl(0x80), asm.jmp(-11));
  using guest = new TinyGuest({ esBase: MMIO_ADDR, code: body });
  const event = eventFd();
  guest.vm.ioeventfd(event, 1, MMIO_ADDR + 0x50, 4, undefined, true);
  const heard = new Promise<void>((resolve) => event.listen(resolve));
  expect(await guest.run()).toMatchObject({ kind: 'io', port: 0x80 });
  await heard;
  guest.vm.ioeventfd(event, 1, MMIO_ADDR + 0x50, 4, undefined, false);
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: true });
  event.close();
});

test('NativeEventFd.listen() hears signals, several as one, and the last listener wins', async () => {
  const event = eventFd();
  let heard = 0;
  const first = new Promise<void>((resolve) =>
    event.listen(() => {
      heard++;
      resolve();
    }),
  );
  event.signal();
  event.signal();
  await first;
  expect(heard).toBe(1);
  const second = new Promise<void>((resolve) => event.listen(resolve));
  event.signal();
  await second;
  expect(heard).toBe(1);
  event.close();
  event.close();
  expect(() => event.signal()).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(() => event.listen(() => {})).toThrow(expect.objectContaining({ code: 'EBADF' }));
});

test('NativeEventFd.listen() survives a close() in its callback', async () => {
  const event = eventFd();
  const closed = new Promise<void>((resolve) => {
    event.listen(() => {
      event.close();
      resolve();
    });
  });
  event.signal();
  await closed;
});

test('fallocate() works off the JavaScript thread and rejects with an errno', async () => {
  const addon = loadAddon();
  await expect(addon.fallocate(-1, 0, 0, 4096)).rejects.toMatchObject({
    code: 'EBADF',
    syscall: 'fallocate',
  });
});
