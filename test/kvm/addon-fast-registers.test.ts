import { expect, test } from 'vitest';
import { asm, code, TinyGuest } from '../support/guest-code.js';

const PORT = 0x3f8;
const MMIO_ADDR = 0xd000_0000;

test('a load register serves reads of its size from the cell', async () => {
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.inAlDx(), asm.outAl(0x80), asm.inAlDx(), asm.outAl(0x80), asm.inAxDx()),
  });
  const cell = Uint8Array.of(0x11);
  guest.vm.setFastRegisters([{ space: 0, kind: 'load', addr: PORT, cell }]);
  expect(await guest.run()).toMatchObject({ port: 0x80, data: Uint8Array.of(0x11) });
  cell[0] = 0x22;
  expect(await guest.run()).toMatchObject({ port: 0x80, data: Uint8Array.of(0x22) });
  // Two bytes are not this register.
  expect(await guest.run()).toMatchObject({ port: PORT, size: 2, write: false });
  expect(guest.vcpu.counters[2]).toBe(2);
});

test('load registers of several sizes share an address, and leave writes to JavaScript', async () => {
  using guest = new TinyGuest({
    esBase: MMIO_ADDR,
    code: code(
      asm.movDi(0x60),
      asm.loadEaxEsDi(),
      asm.movDx(PORT),
      asm.outDxEax(),
      asm.loadAlEsDi(),
      asm.outDxAl(),
      asm.storeEsDiAl(),
    ),
  });
  guest.vm.setFastRegisters([
    { space: 1, kind: 'load', addr: MMIO_ADDR + 0x60, cell: Uint8Array.of(1, 2, 3, 4) },
    { space: 1, kind: 'load', addr: MMIO_ADDR + 0x60, cell: Uint8Array.of(9) },
    { space: 0, kind: 'load', addr: 0x60, cell: Uint8Array.of(8) },
  ]);
  expect(await guest.run()).toMatchObject({ kind: 'io', data: Uint8Array.of(1, 2, 3, 4) });
  expect(await guest.run()).toMatchObject({ kind: 'io', data: Uint8Array.of(9) });
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: true });
});

test('a clear-bits register clears what is written', async () => {
  using guest = new TinyGuest({
    esBase: MMIO_ADDR,
    code: code(
      asm.movDi(0x64),
      asm.movEax(0x8000_0005),
      asm.storeEsDiEax(),
      asm.outAl(0x80),
      asm.storeEsDiAl(),
    ),
  });
  const cell = new Int32Array([-1]);
  guest.vm.setFastRegisters([
    { space: 1, kind: 'clear-bits', addr: MMIO_ADDR + 0x64, cell: new Uint8Array(cell.buffer) },
  ]);
  expect(await guest.run()).toMatchObject({ port: 0x80 });
  expect(cell[0]).toBe(0x7fff_fffa);
  expect(await guest.run()).toMatchObject({ kind: 'mmio', write: true });
  expect(guest.vcpu.counters[3]).toBe(1);
});

/** Everything that the streams and the exits gave, in order. */
function record(guest: TinyGuest): string[] {
  const events: string[] = [];
  guest.vm.onStream((index, bytes) => events.push(`${index}:${Buffer.from(bytes).toString('latin1')}`));
  return events;
}

const put = (text: string): number[] =>
  [...text].flatMap((c) => [...asm.movAl(c.charCodeAt(0)), ...asm.outDxAl()]);

test('a stream register gathers bytes and gives them before the next exit', async () => {
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), put('abc'), asm.outAl(0x80), put('de'), asm.outAl(0x80)),
  });
  const events = record(guest);
  guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: PORT, cell: Uint8Array.of(1) }]);
  expect(await guest.run()).toMatchObject({ port: 0x80 });
  expect(events.join('').replaceAll('0:', '')).toBe('abc');
  expect(await guest.run()).toMatchObject({ port: 0x80 });
  expect(events.join('').replaceAll('0:', '')).toBe('abcde');
  expect([...guest.vcpu.counters.subarray(0, 5)]).toEqual([7, 2, 0, 0, 5]);
});

test('a stream register gives its bytes although the guest never comes back', async () => {
  using guest = new TinyGuest({
    irqchip: true,
    code: code(asm.movDx(PORT), put('# '), asm.cli(), asm.hlt()),
  });
  guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: PORT, cell: Uint8Array.of(1) }]);
  let text = '';
  const prompt = new Promise<void>((resolve) => {
    guest.vm.onStream((_index, bytes) => {
      text += Buffer.from(bytes).toString();
      if (text === '# ') resolve();
    });
  });
  const exit = guest.run();
  await prompt;
  guest.vcpu.kick();
  await exit;
});

test('a stream register takes string output whole and in order', async () => {
  const text = Buffer.from(Array.from({ length: 200 }, (_, i) => 32 + (i % 90)));
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.movSi(0x2000), asm.movCx(text.length), asm.repOutsb(), asm.outAl(0x80)),
  });
  guest.load(0x2000, text);
  const events = record(guest);
  guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: PORT, cell: Uint8Array.of(1) }]);
  expect(await guest.run()).toMatchObject({ port: 0x80 });
  expect(events.map((event) => event.slice(2)).join('')).toBe(text.toString());
});

test('a stream register that is switched off, or accessed otherwise, leaves the access to JavaScript', async () => {
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), put('ab'), asm.outDxAx(), asm.inAlDx(), put('c'), asm.outAl(0x80)),
  });
  const events = record(guest);
  const enabled = Uint8Array.of(0);
  guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: PORT, cell: enabled }]);
  expect(await guest.run()).toMatchObject({ port: PORT, data: Uint8Array.of(0x61) });
  enabled[0] = 1;
  expect(await guest.run()).toMatchObject({ port: PORT, size: 2 });
  expect(events).toEqual(['0:b']);
  expect(await guest.run()).toMatchObject({ port: PORT, write: false });
  enabled[0] = 0;
  expect(await guest.run()).toMatchObject({ port: PORT, data: Uint8Array.of(0x63) });
});

test('a stream register that is full hands over what it has, then the byte that did not fit', async () => {
  using guest = new TinyGuest({ code: code(asm.movDx(PORT), put('abcdefgh'), asm.outAl(0x80)) });
  const events = record(guest);
  guest.vm.setFastRegisters([
    { space: 0, kind: 'stream', addr: PORT, cell: Uint8Array.of(1), capacityBytes: 3 },
  ]);
  for (let exit = await guest.run(); exit.kind === 'io' && exit.port === PORT; exit = await guest.run()) {
    events.push(`exit:${Buffer.from(exit.data).toString()}`);
  }
  expect(events.map((event) => event.slice(event.indexOf(':') + 1)).join('')).toBe('abcdefgh');
});

test('stream registers survive a flood, complete, in order, in few batches', async () => {
  const rounds = 20_000;
  using guest = new TinyGuest({
    code: code(asm.movDx(PORT), asm.movCx(rounds), asm.incAl(), asm.outDxAl(), asm.loop(-5), asm.outAl(0x80)),
  });
  guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: PORT, cell: Uint8Array.of(1) }]);
  let count = 0;
  let batches = 0;
  let ordered = true;
  guest.vm.onStream((_index, bytes) => {
    batches++;
    for (const byte of bytes) if (byte !== (++count & 0xff)) ordered = false;
  });
  for (let exit = await guest.run(); exit.kind === 'io' && exit.port === PORT; exit = await guest.run()) {
    if (exit.data[0] !== (++count & 0xff)) ordered = false;
  }
  expect(count).toBe(rounds);
  expect(ordered).toBe(true);
  expect(batches).toBeLessThan(rounds / 20);
});

test('streams and exits of two vCPUs keep their order', async () => {
  using guest = new TinyGuest({ cpus: 2, code: code(asm.movDx(PORT), put('A'), asm.outAl(0x80)) });
  const events = record(guest);
  guest.vm.setFastRegisters([
    { space: 0, kind: 'stream', addr: PORT, cell: Uint8Array.of(1) },
    { space: 0, kind: 'stream', addr: PORT + 1, cell: Uint8Array.of(1) },
  ]);
  await guest.run(0);
  expect(events).toEqual(['0:A']);
  guest.load(0x5000, code(asm.movDx(PORT + 1), put('B'), asm.outAl(0x80)));
  guest.vcpus[1]!.setStruct('kvm_mp_state', new Uint8Array(4));
  guest.sregs((sregs) => {
    sregs.cs.base = 0n;
    sregs.cs.selector = 0;
  }, 1);
  guest.regs((regs) => {
    regs.rip = 0x5000n;
    regs.rflags = 2n;
  }, 1);
  await guest.run(1);
  expect(events).toEqual(['0:A', '1:B']);
});

test('setFastRegisters() throws EBUSY while a vCPU runs', async () => {
  using guest = new TinyGuest({ code: code(asm.hang()) });
  const exit = guest.run();
  expect(() => guest.vm.setFastRegisters([])).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  guest.vcpu.kick();
  await exit;
  guest.vm.setFastRegisters([]);
});
