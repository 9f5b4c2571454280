import { expect, test } from 'vitest';
import {
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
} from '../../src/kvm/constants.js';
import { asm, CODE_ADDR, code, enterLongMode, TinyGuest } from '../support/guest-code.js';
import { notHere } from '../support/skip-reasons.js';

const PORT = 0x3f8;
const MMIO_ADDR = 0xd000_0000;

test('run() gives a port write with its size and value', async () => {
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.movEax(0x1234_5678), asm.outDxAl(), asm.outDxAx(), asm.outDxEax()),
  });
  for (const data of [[0x78], [0x78, 0x56], [0x78, 0x56, 0x34, 0x12]]) {
    expect(await guest.run()).toMatchObject({
      kind: 'io',
      write: true,
      port: PORT,
      size: data.length,
      count: 1,
      data: Uint8Array.from(data),
      error: 0,
    });
  }
});

test('run() takes the answer of a port read from the run page', async () => {
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.movEax(0), asm.inAlDx(), asm.inAxDx(), asm.inEaxDx(), asm.outAl(0x80)),
  });
  expect(await guest.run()).toMatchObject({ kind: 'io', write: false, port: PORT, size: 1 });
  guest.answer(0xab);
  expect(await guest.run()).toMatchObject({ kind: 'io', write: false, size: 2 });
  expect(guest.regs().rax).toBe(0xabn);
  guest.answer(0xbeef);
  expect(await guest.run()).toMatchObject({ kind: 'io', write: false, size: 4 });
  guest.answer(0xcafe_f00d);
  expect(await guest.run()).toMatchObject({ kind: 'io', write: true, port: 0x80 });
  expect(guest.regs().rax).toBe(0xcafe_f00dn);
});

/** String instructions come in as many exits as KVM likes; together they are the string. */
test('run() gives string output in order, in one or several exits', async () => {
  const text = Buffer.from('hello, world\n');
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.movSi(0x2000), asm.movCx(text.length), asm.repOutsb(), asm.outAl(0x80)),
  });
  guest.load(0x2000, text);
  const got: number[] = [];
  for (let exit = await guest.run(); exit.kind === 'io' && exit.port === PORT; exit = await guest.run()) {
    expect(exit.size).toBe(1);
    expect(exit.data).toHaveLength(exit.count);
    got.push(...exit.data);
  }
  expect(Buffer.from(got).toString()).toBe(text.toString());
});

test('run() takes string input from the run page', async () => {
  const length = 10;
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.movDi(0x2000), asm.movCx(length), asm.repInsb(), asm.outAl(0x80)),
  });
  let next = 1;
  for (let exit = await guest.run(); exit.kind === 'io' && exit.port === PORT; exit = await guest.run()) {
    const page = new Uint8Array(guest.vcpu.runPage);
    const offset = new DataView(guest.vcpu.runPage).getUint32(40, true);
    for (let i = 0; i < exit.count; i++) page[offset + i] = next++;
  }
  expect([...guest.bytes.subarray(0x2000, 0x2000 + length)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test('run() gives memory-mapped writes and reads', async () => {
  using guest = new TinyGuest({
    esBase: MMIO_ADDR,
    code: code(
      asm.movDi(0x70),
      asm.movEax(0x1122_3344),
      asm.storeEsDiEax(),
      asm.storeEsDiAl(),
      asm.loadEaxEsDi(),
      asm.outAl(0x80),
    ),
  });
  const addr = MMIO_ADDR + 0x70;
  const data = Uint8Array.of(0x44, 0x33, 0x22, 0x11);
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: true, addr, data });
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: true, addr, data: data.slice(0, 1) });
  const read = await guest.run();
  expect(read).toMatchObject({ kind: 'mmio', write: false, addr });
  expect('data' in read && read.data.length).toBe(4);
  guest.answerMmio(0x5566_7788);
  expect(await guest.run()).toMatchObject({ kind: 'io', port: 0x80 });
  expect(guest.regs().rax).toBe(0x5566_7788n);
});

test('run() gives HLT when no interrupt controller is in the kernel', async () => {
  using guest = new TinyGuest({ code: code(asm.hlt(), asm.outAl(0x80)) });
  expect(await guest.run()).toMatchObject({ kind: 'halted' });
  expect(await guest.run()).toMatchObject({ kind: 'io', port: 0x80 });
});

test('run() executes 64-bit code', async () => {
  using guest = new TinyGuest({
    code: code(
      [0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], // mov rax, 0x0807060504030201
      [0x49, 0x89, 0xc7], // mov r15, rax
      [0x66, 0xba, 0xf8, 0x03, 0xee], // mov dx, PORT; out dx, al
    ),
  });
  enterLongMode(guest);
  expect(await guest.run()).toMatchObject({ kind: 'io', port: PORT, data: Uint8Array.of(1) });
  expect(guest.regs().r15).toBe(0x0807_0605_0403_0201n);
});

test('run() throws EBUSY while running, and so do the registers', async () => {
  using guest = new TinyGuest({ code: code(asm.cli(), asm.hang()) });
  const exit = guest.run();
  expect(guest.vcpu.running).toBe(true);
  expect(() => guest.vcpu.run()).toThrow(expect.objectContaining({ code: 'EBUSY', syscall: 'KVM_RUN' }));
  expect(() => guest.vcpu.getStruct('kvm_regs')).toThrow(
    expect.objectContaining({ code: 'EBUSY', syscall: 'KVM_GET_REGS' }),
  );
  guest.vcpu.kick();
  await exit;
  expect(guest.vcpu.running).toBe(false);
});

test('kick() stops a guest that spins with interrupts off', async () => {
  using guest = new TinyGuest({ irqchip: true, code: code(asm.cli(), asm.hang()) });
  const exit = guest.run();
  await new Promise((resolve) => setTimeout(resolve, 20));
  guest.vcpu.kick();
  expect(await exit).toMatchObject({ kind: 'interrupted', error: 0 });
  expect(guest.regs().rip).toBe(BigInt(CODE_ADDR + 1));
});

test('kick() stops a guest that is halted in the kernel', async () => {
  using guest = new TinyGuest({ irqchip: true, code: code(asm.cli(), asm.hlt()) });
  const exit = guest.run();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(guest.vcpu.running).toBe(true);
  guest.vcpu.kick();
  expect(await exit).toMatchObject({ kind: 'interrupted' });
});

test('kick() of a vCPU that does not run makes the next run() finish the exit and no more', async () => {
  using guest = new TinyGuest({ code: code(asm.inAl(0x70), asm.outAl(0x80)) });
  await guest.run();
  guest.answer(0x5a);
  guest.vcpu.kick();
  expect(await guest.run()).toMatchObject({ kind: 'interrupted' });
  expect(guest.regs()).toMatchObject({ rax: 0x5an, rip: BigInt(CODE_ADDR + 2) });
  expect(await guest.run()).toMatchObject({ kind: 'io', write: true, port: 0x80, data: Uint8Array.of(0x5a) });
});

test('kick() before the first run() is not lost, and several are one', async () => {
  using guest = new TinyGuest({ code: code(asm.outAl(0x80)) });
  guest.vcpu.kick();
  guest.vcpu.kick();
  expect(await guest.run()).toMatchObject({ kind: 'interrupted' });
  expect(guest.regs().rip).toBe(BigInt(CODE_ADDR));
  expect(await guest.run()).toMatchObject({ kind: 'io' });
});

test('kick() at any moment gives one interruption, and no exit is lost', async () => {
  using guest = new TinyGuest({ code: code(asm.incAl(), asm.outAl(0x80), asm.jmp(-6)) });
  let writes = 0;
  let interruptions = 0;
  const kicks = 300;
  for (let i = 0; i < kicks; i++) {
    const exit = guest.run();
    for (let spin = (i * 37) % 3000; spin > 0; spin--);
    guest.vcpu.kick();
    for (let got = await exit; ; got = await guest.run()) {
      if (got.kind === 'interrupted') break;
      writes++;
      expect(got).toMatchObject({ kind: 'io', data: Uint8Array.of(writes & 0xff) });
    }
    interruptions++;
  }
  expect(interruptions).toBe(kicks);
});

test('an exception in onExit is an uncaught exception and leaves the vCPU stopped', async () => {
  using guest = new TinyGuest({ code: code(asm.outAl(0x80), asm.outAl(0x81)) });
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const caught = new Promise((resolve) => process.once('uncaughtException', resolve));
  guest.vcpu.onExit(() => {
    throw new Error('from onExit');
  });
  guest.vcpu.run();
  expect(await caught).toMatchObject({ message: 'from onExit' });
  for (const listener of listeners) process.on('uncaughtException', listener);
  expect(guest.vcpu.running).toBe(false);
});

test('counters tell what happened', async () => {
  using guest = new TinyGuest({ code: code(asm.outAl(0x80), asm.inAl(0x80), asm.outAl(0x80)) });
  for (let i = 0; i < 3; i++) await guest.run();
  guest.vcpu.kick();
  await guest.run();
  const counters = guest.vcpu.counters;
  expect([...counters.subarray(0, 6)]).toEqual([4, 4, 0, 0, 0, 1]);
  expect(counters[8 + 2]).toBe(3);
});

test('run() reports the errno of KVM_RUN', async () => {
  using guest = new TinyGuest();
  // A struct kvm_run with an impossible request: synchronise registers that do not exist.
  new DataView(guest.vcpu.runPage).setBigUint64(288 + 8, 0xffff_ffff_ffff_ffffn, true);
  expect(await guest.run()).toMatchObject({ error: 22 });
});

test('setGuestDebug() single-steps', async () => {
  using guest = new TinyGuest({ code: code(asm.nop(), asm.nop(), asm.incAl(), asm.outAl(0x80)) });
  guest.vcpu.setGuestDebug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, new BigUint64Array(8));
  for (const offset of [1, 2, 4]) {
    expect(await guest.run()).toMatchObject({ kind: 'debug', exception: 1 });
    expect(guest.regs().rip).toBe(BigInt(CODE_ADDR + offset));
  }
  guest.vcpu.setGuestDebug(0, new BigUint64Array(8));
  expect(await guest.run()).toMatchObject({ kind: 'io' });
});

// QEMU's emulation of SVM, which the rig stands on, does not arm the guest's debug registers.
test('setGuestDebug() stops at a hardware breakpoint', async ({ skip }) => {
  skip(process.env['TSVM_RIG'] !== undefined, notHere('the rig’s emulator raises no hardware breakpoints'));
  using guest = new TinyGuest({ code: code(asm.nop(), asm.nop(), asm.incAl(), asm.outAl(0x80)) });
  const dr7 = 0x402n; // breakpoint 0, execution
  guest.vcpu.setGuestDebug(
    KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
    BigUint64Array.of(BigInt(CODE_ADDR + 2), 0n, 0n, 0n, 0n, 0n, 0n, dr7),
  );
  expect(await guest.run()).toMatchObject({ kind: 'debug', exception: 1, pc: BigInt(CODE_ADDR + 2) });
});

test('an application processor starts by INIT and SIPI from the guest', async () => {
  const svr = 0xf0;
  const icr = 0x300;
  using guest = new TinyGuest({
    irqchip: true,
    cpus: 2,
    esBase: 0xfee0_0000,
    code: code(
      asm.movEax(0x1ff), // KVM sends nothing from a LAPIC that is disabled by software
      asm.movDi(svr),
      asm.storeEsDiEax(),
      asm.movEax(0x0100_0000), // to APIC id 1
      asm.movDi(icr + 0x10),
      asm.storeEsDiEax(),
      asm.movDi(icr),
      asm.movEax(0x4500), // INIT, assert
      asm.storeEsDiEax(),
      asm.movEax(0x4608), // SIPI, vector 8: starts at 0x8000
      asm.storeEsDiEax(),
      asm.outAl(0x80),
    ),
  });
  guest.load(0x8000, code(asm.movAl(0x77), asm.outAl(0x81)));
  guest.vcpus.forEach((vcpu, id) => {
    // Leaf 1, EBX[31:24] is the APIC id.
    const entries = guest.kvm.supportedCpuid();
    const view = new DataView(entries.buffer);
    for (let at = 0; at < entries.length; at += 40) {
      if (view.getUint32(at, true) === 1) view.setUint8(at + 16 + 3, id);
    }
    vcpu.setCpuid(entries);
  });
  const ap = guest.run(1);
  expect(await guest.run(0)).toMatchObject({ kind: 'io', port: 0x80 });
  expect(await ap).toMatchObject({ kind: 'io', port: 0x81, data: Uint8Array.of(0x77) });
});
